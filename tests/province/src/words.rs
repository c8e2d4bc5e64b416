//! The words that the simulator's people, places and dossiers are made of. All persons are invented.

pub(crate) const SURNAMES: &[&str] =
    &["Nguyễn", "Trần", "Lê", "Phạm", "Huỳnh", "Hoàng", "Phan", "Vũ", "Võ", "Đặng", "Bùi", "Đỗ", "Hồ", "Ngô", "Dương", "Lý", "Đoàn", "Lâm"];

pub(crate) const MEN: &[&str] = &[
    "Văn An",
    "Văn Bình",
    "Minh Đức",
    "Quốc Hưng",
    "Hữu Nghĩa",
    "Thanh Tùng",
    "Đình Phúc",
    "Công Thành",
    "Hoàng Long",
    "Gia Bảo",
    "Văn Lộc",
    "Trọng Hiếu",
    "Ngọc Sơn",
    "Thế Vinh",
    "Xuân Trường",
    "Anh Tuấn",
    "Đức Thắng",
    "Phước Sang",
    "Nhật Quang",
    "Tấn Phát",
];

pub(crate) const WOMEN: &[&str] = &[
    "Thị Hoa",
    "Thị Lan",
    "Ngọc Ánh",
    "Thu Thủy",
    "Thanh Hằng",
    "Mỹ Duyên",
    "Kim Ngân",
    "Thị Hồng",
    "Bích Phượng",
    "Khánh Vy",
    "Thị Mận",
    "Như Quỳnh",
    "Hồng Nhung",
    "Thùy Trang",
    "Diễm My",
    "Phương Thảo",
    "Thị Xuân",
    "Tuyết Mai",
    "Cẩm Tú",
    "Thị Yến",
];

pub(crate) const STREETS: &[&str] = &[
    "Đại lộ Bình Dương",
    "đường Yersin",
    "đường Cách Mạng Tháng Tám",
    "đường Phú Lợi",
    "đường Huỳnh Văn Lũy",
    "đường Lê Hồng Phong",
    "đường Thích Quảng Đức",
    "đường Nguyễn Tri Phương",
    "đường ĐT 743",
    "đường Trần Văn Ơn",
    "đường Hùng Vương",
    "đường Lý Thường Kiệt",
];

/// Departments, in the order of their codes `H09.01`, `H09.02` ….
pub(crate) const DEPARTMENTS: &[&str] = &[
    "Văn phòng Ủy ban nhân dân tỉnh",
    "Sở Công Thương",
    "Sở Giáo dục và Đào tạo",
    "Sở Giao thông vận tải",
    "Sở Kế hoạch và Đầu tư",
    "Sở Khoa học và Công nghệ",
    "Sở Lao động - Thương binh và Xã hội",
    "Sở Nội vụ",
    "Sở Nông nghiệp và Phát triển nông thôn",
    "Sở Tài chính",
    "Sở Tài nguyên và Môi trường",
    "Sở Thông tin và Truyền thông",
    "Sở Tư pháp",
    "Sở Văn hóa, Thể thao và Du lịch",
    "Sở Xây dựng",
    "Sở Y tế",
    "Thanh tra tỉnh",
    "Ban Quản lý các khu công nghiệp",
    "Trung tâm Phục vụ hành chính công",
    "Ban Dân tộc",
];

/// Districts, in the order of their codes `H09.31`, `H09.32` …, each with some of its communes.
pub(crate) const DISTRICTS: &[(&str, &[&str])] = &[
    (
        "Thủ Dầu Một",
        &[
            "Phú Cường",
            "Hiệp Thành",
            "Chánh Nghĩa",
            "Phú Thọ",
            "Phú Hòa",
            "Phú Lợi",
            "Phú Mỹ",
            "Định Hòa",
            "Hiệp An",
            "Tương Bình Hiệp",
            "Chánh Mỹ",
            "Hòa Phú",
            "Phú Tân",
            "Tân An",
        ],
    ),
    ("Bàu Bàng", &["Lai Uyên", "Trừ Văn Thố", "Cây Trường II", "Long Nguyên", "Lai Hưng", "Tân Hưng", "Hưng Hòa"]),
    (
        "Dầu Tiếng",
        &[
            "Minh Hòa",
            "Minh Thạnh",
            "Minh Tân",
            "Định An",
            "Long Hòa",
            "Định Thành",
            "Định Hiệp",
            "An Lập",
            "Long Tân",
            "Thanh An",
            "Thanh Tuyền",
        ],
    ),
    ("Bến Cát", &["Mỹ Phước", "Thới Hòa", "Hòa Lợi", "Tân Định", "Chánh Phú Hòa", "An Điền", "An Tây", "Phú An"]),
    (
        "Phú Giáo",
        &[
            "Phước Vĩnh",
            "An Linh",
            "Phước Sang",
            "An Thái",
            "An Long",
            "An Bình",
            "Tân Hiệp",
            "Tam Lập",
            "Tân Long",
            "Vĩnh Hòa",
            "Phước Hòa",
        ],
    ),
    (
        "Tân Uyên",
        &[
            "Uyên Hưng",
            "Tân Phước Khánh",
            "Vĩnh Tân",
            "Hội Nghĩa",
            "Tân Hiệp",
            "Khánh Bình",
            "Phú Chánh",
            "Bạch Đằng",
            "Tân Vĩnh Hiệp",
            "Thạnh Phước",
            "Thạnh Hội",
            "Thái Hòa",
        ],
    ),
    ("Dĩ An", &["Dĩ An", "Tân Bình", "Tân Đông Hiệp", "Bình An", "Bình Thắng", "Đông Hòa", "An Bình"]),
    (
        "Thuận An",
        &["An Thạnh", "Lái Thiêu", "Bình Chuẩn", "Thuận Giao", "An Phú", "Hưng Định", "An Sơn", "Bình Nhâm", "Bình Hòa", "Vĩnh Phú"],
    ),
    (
        "Bắc Tân Uyên",
        &["Tân Thành", "Tân Định", "Bình Mỹ", "Tân Bình", "Tân Lập", "Thường Tân", "Đất Cuốc", "Hiếu Liêm", "Lạc An", "Tân Mỹ"],
    ),
];

/// Administrative procedures: their code in the national list and their title.
pub(crate) const PROCEDURES: &[(&str, &str)] = &[
    ("1.004194", "Đăng ký tạm trú"),
    ("1.004222", "Đăng ký thường trú"),
    ("1.001193", "Đăng ký khai sinh"),
    ("1.000894", "Đăng ký kết hôn"),
    ("1.000656", "Đăng ký khai tử"),
    ("1.001612", "Đăng ký thành lập hộ kinh doanh"),
    ("2.001610", "Đăng ký thành lập doanh nghiệp tư nhân"),
    ("1.009994", "Cấp giấy phép xây dựng mới đối với nhà ở riêng lẻ"),
    ("1.004238", "Xóa đăng ký cho thuê, góp vốn bằng quyền sử dụng đất"),
    ("2.000889", "Chuyển nhượng quyền sử dụng đất"),
    ("1.002809", "Đổi giấy phép lái xe"),
    ("1.001776", "Trợ cấp xã hội hằng tháng"),
];

/// The steps that a dossier passes through.
pub(crate) const STEPS: &[&str] =
    &["Tiếp nhận hồ sơ", "Phân công xử lý", "Thẩm định hồ sơ", "Lãnh đạo phòng xem xét", "Ký duyệt", "Trả kết quả"];

/// One sentence of the rare long summaries.
pub(crate) const CLAUSE: &str = " Hồ sơ gồm đơn đề nghị, bản sao giấy tờ tùy thân, bản vẽ hiện trạng và ý kiến của các hộ liền kề, đã được bộ phận một cửa kiểm tra thành phần.";
