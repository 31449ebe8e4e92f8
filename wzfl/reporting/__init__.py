"""Finished runs -> means, intervals, figures, tables and text.

    tables in results/ ──► summary ──► *_plots             figures, which share figures.py
                                  └──► report, *_report    sections of a report, in Markdown

Names, order and looks of compressors are the same in all of them, by compressor_styles.py.

Figures see data frames only; what is claimed, and how sure it is, comes from intervals.py and claims.py.
"""
