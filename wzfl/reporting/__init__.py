"""Finished runs -> means, intervals, figures, tables and text.

    tables in results/ ──► summary ──► plots, *_plots      figures
                                  └──► report, *_report    sections of a report, in Markdown

Figures see data frames only; what is claimed, and how sure it is, comes from intervals.py and claims.py.
"""
