"""RNN, GRU and LSTM: one product projects the whole input, then one kernel runs every direction through time."""
