"""Images and volumes: reading, writing, drawing, coordinate spaces, and skeletons of masks."""
