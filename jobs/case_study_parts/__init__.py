"""Parts of jobs/case_study_prepare.py."""
