"""An image on its way through a pipeline, as a picture: what is shown (panels), where it lies, how it is drawn."""
