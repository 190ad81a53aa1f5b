"""`report.html`: a run, or several beside each other, as one self-contained page."""
