"""The operators of ai.onnx.ml: classical models as scikit-learn, XGBoost and LightGBM export them.

Where the standard's text leaves a choice, or its reference differs from what exporters test against, ONNX Runtime's behaviour is
followed: a model's file was checked with it.
"""
