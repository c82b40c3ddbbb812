"""What quickstart_prepare.py is made of: downloads, weights, backbone, photographs."""
