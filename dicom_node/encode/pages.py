"""How a report looks on paper: A4, one column, the same bytes for the same report."""

from __future__ import annotations

from importlib.resources import as_file, files

from fpdf import FPDF, FontFace
from fpdf.enums import Align, TableBordersLayout, XPos, YPos

from dicom_node.encode.report import Figure, Report, Table
from dicom_node.pictures import FONTS

_FAMILY = "report"
_MARGIN_MM = 18.0
_WIDTH_MM = 210.0 - 2 * _MARGIN_MM
_DARK = (38, 50, 64)
_GREY = (110, 118, 128)
_PALE = (243, 245, 247)
_LINE = (205, 211, 218)
_AMBER = (255, 244, 214)
_AMBER_EDGE = (214, 158, 46)
_RED = (160, 30, 30)
_GAP_MM = 4.0
_TALLEST_MM = 88.0
"""A single picture leaves the page room for how it was made."""


def pages_of(report: Report) -> bytes:
    """Return a report as a PDF file."""
    page = _Pages(report)
    page.begin()
    page.header_block()
    page.findings()
    page.figures()
    page.method()
    return bytes(page.output())


class _Pages(FPDF):
    """The pages; what is drawn on each of them is `header` and `footer`."""

    def __init__(self, report: Report) -> None:
        super().__init__(format="A4", unit="mm")
        self._report = report

    def begin(self) -> None:
        for name, style in zip(FONTS, ("", "B"), strict=True):
            with as_file(files("dicom_node") / "fonts" / name) as file:
                self.add_font(_FAMILY, style, file)
        self.set_creation_date(self._report.made_at)
        self.set_title(self._report.title)
        self.set_creator("dicom_node")
        self.set_lang("en-US")
        self.set_image_filter("FlateDecode")  # without loss
        self.set_margins(_MARGIN_MM, _MARGIN_MM, _MARGIN_MM)
        self.set_auto_page_break(True, 22)
        self.add_page()

    # ------------------------------------------------------------ on each page

    def header(self) -> None:
        """Draw the strip at the top, with what this report is not for."""
        report, first = self._report, self.page_no() == 1
        height = 20.0 if first else 9.0
        self.set_fill_color(*_DARK)
        self.rect(0, 0, 210, height, style="F")
        self.set_text_color(255, 255, 255)
        self.set_font(_FAMILY, "B", 15 if first else 9)
        self.set_xy(_MARGIN_MM, 0)
        self.cell(_WIDTH_MM * 0.62, height, self._cut(report.title, _WIDTH_MM * 0.62))
        self.set_font(_FAMILY, "B", 8)
        width = self.get_string_width(report.disclaimer) + 6
        self.set_fill_color(*_RED)
        self.set_xy(210 - _MARGIN_MM - width, (height - 6) / 2)
        self.cell(width, 6, report.disclaimer, align=Align.C, fill=True)
        self.set_text_color(*_DARK)
        self.set_xy(_MARGIN_MM, height + 5)

    def footer(self) -> None:
        """Draw who says so, of whom, and the number of the page."""
        self.set_y(-15)
        self.set_draw_color(*_LINE)
        self.line(_MARGIN_MM, self.get_y(), 210 - _MARGIN_MM, self.get_y())
        self.set_font(_FAMILY, "", 7.5)
        self.set_text_color(*_GREY)
        patient = dict(self._report.patient).get("Patient ID", "")
        self.cell(_WIDTH_MM * 0.8, 7, f"{self._report.signature}   ·   Patient ID {patient}")
        self.cell(_WIDTH_MM * 0.2, 7, f"Page {self.page_no()} of {{nb}}", align=Align.R)
        self.set_text_color(*_DARK)

    # ------------------------------------------------------------ once

    def header_block(self) -> None:
        """Draw whose images these are, in two columns."""
        report, top = self._report, self.get_y()
        lines = max(len(report.patient), len(report.study))
        self.set_fill_color(*_PALE)
        self.rect(_MARGIN_MM, top, _WIDTH_MM, 5.6 * lines + 5, style="F")
        widths = (_WIDTH_MM * 0.42, _WIDTH_MM * 0.58)
        for column, pairs in enumerate((report.patient, report.study)):
            for index, (label, value) in enumerate(pairs):
                self.set_xy(_MARGIN_MM + 3 + column * widths[0], top + 2.5 + 5.6 * index)
                self.set_font(_FAMILY, "", 8)
                self.set_text_color(*_GREY)
                self.cell(20, 5.6, label)
                self.set_font(_FAMILY, "B" if label == "Patient" else "", 9)
                self.set_text_color(*_DARK)
                room = widths[column] - 25
                self._shrink(value, room)
                self.cell(room, 5.6, self._cut(value, room))
        self.set_y(top + 5.6 * lines + 5 + _GAP_MM)

    def findings(self) -> None:
        """Draw the result in words, what to mind, and the tables."""
        report = self._report
        self._heading("Result")
        self.set_font(_FAMILY, "B", 11)
        self._words(report.summary, 6)
        if report.notes:
            self._notes(report.notes)
        for table in report.tables:
            self.ln(_GAP_MM / 2)
            self._table(table)
        self.ln(_GAP_MM)

    def figures(self) -> None:
        """Draw the pictures: one in the middle, several side by side."""
        figures = self._report.figures
        per_line = 1 if len(figures) == 1 else 2
        width = (_WIDTH_MM - _GAP_MM) / 2
        if per_line == 1:
            picture = figures[0].picture
            width = min(108.0, _TALLEST_MM * picture.width / picture.height)
        lines = [figures[first : first + per_line] for first in range(0, len(figures), per_line)]
        for index, line in enumerate(lines):
            heights = [width * one.picture.height / one.picture.width for one in line]
            room = max(heights) + 7 + (9 if index == 0 else 0)
            if self.will_page_break(room):
                self.add_page()
            if index == 0:
                self._heading("Images")
            self._line_of_figures(line, width)

    def method(self) -> None:
        """Draw how it was made, and what it cannot do."""
        report = self._report
        if self.will_page_break(45):
            self.add_page()
        self._heading("How this was made")
        for label, value in report.method:
            self.set_font(_FAMILY, "", 8)
            self.set_text_color(*_GREY)
            self.cell(24, 5, label)
            self.set_text_color(*_DARK)
            self.set_font(_FAMILY, "", 8.5)
            self._words(value, 5)
        self.ln(1)
        self.set_font(_FAMILY, "", 8.5)
        self._words(report.description, 4.4)
        if report.limits:
            self.ln(1)
            self.set_font(_FAMILY, "B", 8.5)
            self._words("Limits", 4.6)
            self.set_font(_FAMILY, "", 8.5)
            for limit in report.limits:
                self._words(f"–  {limit}", 4.4)
        self.ln(2)
        self.set_text_color(*_GREY)
        self._words(
            "Made by an algorithm and verified by nobody. The Segmentation and the Structured "
            "Report of the same study, where they were sent, hold the same results for machines.",
            4.4,
        )

    # ------------------------------------------------------------ pieces

    def _heading(self, text: str) -> None:
        self.set_font(_FAMILY, "B", 10)
        self.set_text_color(*_GREY)
        self.cell(_WIDTH_MM, 6, text.upper(), new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.set_draw_color(*_LINE)
        self.line(_MARGIN_MM, self.get_y(), 210 - _MARGIN_MM, self.get_y())
        self.set_text_color(*_DARK)
        self.ln(2)

    def _words(self, text: str, height_mm: float) -> None:
        self.multi_cell(0, height_mm, text, align=Align.L, new_x=XPos.LMARGIN, new_y=YPos.NEXT)

    def _notes(self, notes: tuple[str, ...]) -> None:
        """Draw what to mind, on amber, however long it is."""
        self.ln(1.5)
        self.set_font(_FAMILY, "", 9)
        self.set_fill_color(*_AMBER)
        for note in notes:
            top = self.get_y()
            self.set_x(_MARGIN_MM + 1.2)
            self.multi_cell(
                _WIDTH_MM - 1.2,
                5,
                note,
                align=Align.L,
                fill=True,
                padding=(1, 3, 1, 3),
                new_x=XPos.LMARGIN,
                new_y=YPos.NEXT,
            )
            if self.get_y() > top:
                self.set_fill_color(*_AMBER_EDGE)
                self.rect(_MARGIN_MM, top, 1.2, self.get_y() - top, style="F")
                self.set_fill_color(*_AMBER)
        self.ln(0.5)

    def _table(self, table: Table) -> None:
        self.set_font(_FAMILY, "", 9)
        self.set_draw_color(*_LINE)
        self.set_fill_color(255, 255, 255)
        numbers = len(table.headings) - 1
        widths = (max(40, 100 - 20 * numbers), *([20] * numbers))
        coloured = any(row.colour for row in table.rows)
        if coloured:
            widths = (3, *widths)
        with self.table(
            borders_layout=TableBordersLayout.HORIZONTAL_LINES,
            col_widths=widths,
            line_height=5.6,
            text_align=tuple(Align.L for _ in widths),
            headings_style=FontFace("", "BOLD", 8, _GREY, _PALE),
            padding=(0.4, 1.5, 0.4, 1.5),
        ) as drawn:
            drawn.row((*([""] if coloured else []), *table.headings))
            for row in table.rows:
                line = drawn.row()
                if coloured:
                    style = FontFace(fill_color=row.colour) if row.colour else None
                    line.cell("", style=style)
                style = FontFace(emphasis="BOLD") if row.strong else None
                for cell in row.cells:
                    line.cell(cell, style=style)

    def _line_of_figures(self, line: tuple[Figure, ...], width: float) -> None:
        top = self.get_y()
        left = _MARGIN_MM + (0 if len(self._report.figures) > 1 else (_WIDTH_MM - width) / 2)
        bottom = top
        for index, one in enumerate(line):
            x = left + index * (width + _GAP_MM)
            height = width * one.picture.height / one.picture.width
            self.image(one.picture, x, top, width, height, alt_text=one.caption)
            self.set_xy(x, top + height + 0.5)
            self.set_font(_FAMILY, "", 8)
            self.set_text_color(*_GREY)
            self.cell(width, 4.5, one.caption, align=Align.C)
            bottom = max(bottom, top + height + 7)
        self.set_text_color(*_DARK)
        self.set_xy(_MARGIN_MM, bottom)

    def _shrink(self, text: str, width: float) -> None:
        """Set a smaller font where a text would not fit: half a name is nobody's."""
        while self.font_size_pt > 6 and self.get_string_width(text) > width - 2:
            self.set_font_size(self.font_size_pt - 0.5)

    def _cut(self, text: str, width: float) -> str:
        """Return a text that fits on one line in the present font."""
        if self.get_string_width(text) <= width - 2:
            return text
        while text and self.get_string_width(f"{text}…") > width - 2:
            text = text[:-1]
        return f"{text}…"
