"""What jobs/text_prepare.py is made of."""
