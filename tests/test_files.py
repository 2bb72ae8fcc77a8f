from simreal.files import write_table, write_text


def test_a_file_takes_the_place_of_one_that_is_there_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "deep/a.txt"
    for text in ("one\n", "two\n"):
        assert write_text(path, text) == path and path.read_bytes() == text.encode()
    assert list(path.parent.iterdir()) == [path]


def test_a_table_keeps_every_digit_and_quotes_what_needs_it(tmp_path):
    path = write_table(tmp_path / "a.csv", ("name", "value"), [("a, b", 0.1 + 0.2), ("c", None)])
    assert path.read_bytes() == b'name,value\r\n"a, b",0.30000000000000004\r\nc,\r\n'
