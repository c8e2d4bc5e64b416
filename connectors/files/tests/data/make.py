"""Makes dan_cu.xls and dan_cu.xlsx: `python tests/data/make.py`, with xlwt and openpyxl."""
import datetime
import pathlib

import openpyxl
import xlwt

book = xlwt.Workbook(encoding="utf-8")
sheet = book.add_sheet("Dân cư")
day = xlwt.easyxf(num_format_str="dd/mm/yyyy")
moment = xlwt.easyxf(num_format_str="dd/mm/yyyy hh:mm")
sheet.write_merge(0, 0, 0, 3, "DANH SÁCH DÂN CƯ")
for column, name in enumerate(["so_dinh_danh", "ho_ten", "sinh", "phi"]):
    sheet.write(2, column, name)
sheet.write(3, 0, "007")
sheet.write(3, 1, "Nguyễn Thị Ánh")
sheet.write(3, 2, datetime.date(1990, 1, 1), day)
sheet.write(3, 3, 2.5)
sheet.write(4, 0, 8)
sheet.write(4, 2, datetime.datetime(2025, 10, 13, 12, 0), moment)
sheet.write(4, 3, 3)
sheet.write(6, 0, "0009")
sheet.write(6, 1, "Lê Bình")
book.save(str(pathlib.Path(__file__).with_name("dan_cu.xls")))

book = openpyxl.Workbook()
sheet = book.active
sheet.title = "Dân cư"
sheet["A1"] = "DANH SÁCH DÂN CƯ"
sheet.merge_cells("A1:D1")
sheet.append([])
sheet.append(["so_dinh_danh", "ho_ten", "sinh", "phi"])
sheet.append(["007", "Nguyễn Thị Ánh", datetime.date(1990, 1, 1), 2.5])
sheet.append([8, None, datetime.datetime(2025, 10, 13, 12, 0), 3])
sheet.append([])
sheet.append(["0009", "Lê Bình"])
sheet["D30"].number_format = "0.00"
book.create_sheet("Khác")
book.save(str(pathlib.Path(__file__).with_name("dan_cu.xlsx")))
