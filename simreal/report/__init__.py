"""The verdict as people read it; pure functions of the dict in report.json.

words.py     numbers, verdict symbols, the sentence that answers the question
terminal.py  the verdict table in a terminal
figures.py   learning curves as Plotly figures; scales and marks of the drawings that need no script
html.py      report.html, one file that needs no network
"""
