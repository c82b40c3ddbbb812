"""What jobs/audio_prepare.py is made of."""
