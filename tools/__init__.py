"""What joins images, trees and networks: sampling, training, inference, tracing, pictures."""
