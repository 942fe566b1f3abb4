"""The folder of a submission: links, scripts, and its own grade.toml."""

import os
from pathlib import Path

import pytest
from class_folder import write

from kvss_gevent.grading.folder import ClassSettings, Refused, copy, read_settings, recipe
from kvss_gevent.settings.fail import Fail


@pytest.mark.parametrize("link", ["/etc/passwd", "../other/secret", "inside/../../other"])
def test_a_link_that_leads_out_of_its_folder_is_refused(link: str, tmp_path: Path) -> None:
    source = write(tmp_path / "An", {"run.sh": "exit"})
    write(tmp_path / "other", {"secret": "x"})
    (source / "inside").mkdir()
    (source / "link").symlink_to(link)
    with pytest.raises(Refused, match="the link link leads out"):
        copy(source, tmp_path / "copy")
    (tmp_path / "also").symlink_to(source)
    with pytest.raises(Refused, match="a link to another place"):
        copy(tmp_path / "also", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_link_inside_is_copied_and_a_pipe_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "An", {"run.sh": "exit"})
    (source / "link").symlink_to("run.sh")
    copy(source, tmp_path / "copy")
    assert (tmp_path / "copy" / "link").readlink() == Path("run.sh")
    os.mkfifo(source / "pipe")
    with pytest.raises(Refused, match="pipe is neither a file nor a folder"):
        copy(source, tmp_path / "second")


def test_scripts_come_before_the_class_and_the_submission_s_own_file_before_both(tmp_path: Path) -> None:
    settings = ClassSettings(build="make", command="java Server {port}")
    bare = write(tmp_path / "bare", {})
    assert (recipe(bare, settings).build, recipe(bare, settings).command) == ("make", "java Server {port}")
    assert recipe(bare, ClassSettings()).command == ""
    scripts = write(tmp_path / "scripts", {"run.sh": "exit", "build.sh": "exit"})
    (scripts / "run.sh").chmod(0o755)
    assert (recipe(scripts, settings).build, recipe(scripts, settings).command) == (
        "exec sh ./build.sh",
        "exec ./run.sh {port}",
    )
    (scripts / "grade.toml").write_text('command = "./mine {port}"\nweights = {QUIT = 100}\n')
    own = recipe(scripts, settings)
    assert own.command == "./mine {port}"
    assert own.notes == ("grade.toml: weights can only be set for the whole class.",)
    (scripts / "grade.toml").write_text("command = 7")
    with pytest.raises(Refused, match=r"its grade.toml: command has a value of the wrong kind: 7"):
        recipe(scripts, settings)


def test_a_script_with_windows_line_ends_is_said_to_be_one(tmp_path: Path) -> None:
    source = write(tmp_path / "An", {})
    (source / "run.sh").write_bytes(b"exec ./server $1\r\n")
    [note] = recipe(source, ClassSettings()).notes
    assert note == "run.sh has Windows line ends (CR LF), which a shell does not accept: save it with LF."
    (source / "run.sh").write_bytes(b"exec ./server $1\n")
    assert recipe(source, ClassSettings()).notes == ()


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("colour = 1", "there is no setting 'colour'"),
        ("budget = 0", "budget is 0, which is not a number of seconds"),
        ("budget = true", "budget has a value of the wrong kind"),
        ('profile = "easy"', "there is no profile 'easy'"),
        ("weights = {speed = 1}", "speed = 1 is not a case or group with whole points"),
        ("weights = {QUIT = -1}", "QUIT = -1 is not a case or group with whole points"),
        ('only = ["rule 3", "rule 99"]', "no case, group or rule 'rule 99'"),
        ("= 1", "Invalid"),
        (f"build = {'[' * 5000}{']' * 5000}", "its values are nested too deeply"),
        (f"# {'x' * (1 << 20)}", "it is longer than 1,048,576 bytes"),
        ('build = "exit\\u0000"', "build is longer than 10000 characters, or has a NUL in it"),
        (f'build = "{"x" * 10_001}"', "build is longer than 10000 characters, or has a NUL in it"),
    ],
)
def test_a_wrong_grade_toml_is_a_clear_line(text: str, cause: str, tmp_path: Path) -> None:
    (tmp_path / "grade.toml").write_text(text)
    with pytest.raises(Fail, match=cause):
        read_settings(tmp_path)
