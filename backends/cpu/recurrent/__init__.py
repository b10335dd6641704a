"""RNN, GRU and LSTM: one product projects the whole input, then one step runs every direction through time."""
