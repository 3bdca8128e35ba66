"""Images: reading and writing, drawing, spaces, and the skeleton of a mask as a forest."""
