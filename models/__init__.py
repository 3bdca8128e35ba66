"""Networks and their weight files. Models know no images and no trees."""
