"""The JSON Schema of the pipeline file, made from its models."""
