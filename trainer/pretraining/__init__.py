"""Pre-training one masked language model on one corpus; knows no Ray and no MLflow."""
