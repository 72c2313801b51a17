from bot.demo.privacy import count_found


async def test_only_values_that_stand_in_a_file_are_counted(tmp_path):
    (tmp_path / "a").write_bytes(b"\x00\xffhello Maria\x00")
    (tmp_path / "b").write_text("señor")
    assert await count_found(["Maria", "señor", "Peter"], [tmp_path / "a", tmp_path / "b"]) == 2
