"""Where a task's files are found: in a user's folder, in the cache, or upstream, in one form or another."""

from pathlib import Path

import pytest

from tests.conftest import files_in, refusal
from tests.http_server import Server
from trainer.sources import Source, cache_folder, find, locate

pytestmark = pytest.mark.usefixtures("loopback")

HOME = "https://example.org/data"
FASTA = tuple(Source(path=f"protein/Stability/stability_{part}.fa", homepage=HOME) for part in ("train", "dev"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLYMATH_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


def json_files(server: Server) -> tuple[Source, ...]:
    paths = [f"protein/tape/{part}.json" for part in ("train", "valid")]
    return tuple(Source(path=path, url=server.serve(path, b"[]")) for path in paths)


def gone(port: int, path: str) -> Source:
    return Source(path=path, url=f"http://127.0.0.1:{port}/{path}")


def touch(folder: Path, *paths: str) -> list[Path]:
    files = [folder / path for path in paths]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return files


def test_locate_downloads_into_the_cache_once(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYMATH_DATA", str(tmp_path / "cache"))
    paths = {locate(((server.source,),), None) for _ in range(2)}
    assert paths == {(tmp_path / "cache" / "dna" / "H4.txt",)}
    assert server.ranges == [None]


def test_cache_folder_is_the_environments_else_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("POLYMATH_DATA", "~/data")
    assert cache_folder() == Path.home() / "data"
    monkeypatch.setenv("POLYMATH_DATA", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "polymath"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "polymath"


@pytest.mark.parametrize("name", ["dna/H4.txt", "H4.txt"])
def test_data_dir_is_taken_as_it_is_in_both_layouts(server: Server, tmp_path: Path, name: str) -> None:
    (tmp_path / "dna").mkdir()
    (tmp_path / name).write_text("a subset")
    assert locate(((server.source,),), tmp_path) == (tmp_path / name,)
    assert server.ranges == []


def test_mistyped_data_dir_names_its_neighbour(server: Server, tmp_path: Path) -> None:
    (tmp_path / "shared-data").mkdir()
    message = refusal(lambda: locate(((server.source,),), tmp_path / "shard-data"))
    for part in ("data_dir", str(tmp_path / "shard-data"), "did you mean 'shared-data'", "dna/H4.txt"):
        assert part in message


def test_data_dir_without_the_file_says_where_to_get_it(server: Server, tmp_path: Path) -> None:
    (tmp_path / "h4.TXT").touch()
    message = refusal(lambda: locate(((server.source,),), tmp_path))
    for part in (
        "data_dir",
        str(tmp_path),
        "dna/H4.txt",
        "did you mean 'h4.TXT'",
        server.source.url,
        "leave data_dir out",
    ):
        assert part in message
    assert server.ranges == []


def test_data_dir_that_is_a_file_is_refused(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "H4.txt"
    file.touch()
    assert "is a file; give the folder" in refusal(lambda: locate(((server.source,),), file))


# Folders of a user's own


def test_the_longest_trailing_part_of_a_path_is_found(tmp_path: Path) -> None:
    source = Source(path="glue/CoLA/train.tsv")
    assert find(source, tmp_path) is None
    for path in ("train.tsv", "CoLA/train.tsv", "glue/CoLA/train.tsv"):
        (file,) = touch(tmp_path, path)
        assert find(source, tmp_path) == file


def test_the_first_form_that_is_whole_is_taken(server: Server, tmp_path: Path) -> None:
    layouts = (FASTA, json_files(server))
    touch(tmp_path, "Stability/stability_train.fa")
    files = touch(tmp_path, "tape/train.json", "tape/valid.json")
    assert locate(layouts, tmp_path) == tuple(files)
    touch(tmp_path, "Stability/stability_dev.fa")
    assert {path.suffix for path in locate(layouts, tmp_path)} == {".fa"}
    assert server.paths == []


def test_a_folder_without_a_whole_form_is_told_what_the_nearest_one_lacks(server: Server, tmp_path: Path) -> None:
    layouts = (json_files(server), FASTA)
    touch(tmp_path, "Stability/stability_train.fa", "Stability/stability_deev.fa")
    message = refusal(lambda: locate(layouts, tmp_path))
    for part in (
        "holds none of protein/Stability/stability_dev.fa, Stability/stability_dev.fa, stability_dev.fa",
        "did you mean 'stability_deev.fa'",
        f"by hand from {HOME}",
        "or leave data_dir out",
        "protein/tape/train.json and 1 more will do",
    ):
        assert part in message
    assert server.paths == []


def test_a_folder_without_any_file_is_told_all_of_them_and_their_home(tmp_path: Path) -> None:
    message = refusal(lambda: locate((FASTA,), tmp_path))
    for source in FASTA:
        assert source.path in message
    assert f"get them by hand from {HOME}" in message and "leave data_dir out" not in message


def test_a_file_of_the_same_form_is_no_near_miss(tmp_path: Path) -> None:
    touch(tmp_path, "stability_train.fa")
    assert "did you mean" not in refusal(lambda: locate((FASTA,), tmp_path))


def test_several_lacking_files_are_said_to_lie_where_all_of_them_do(server: Server, tmp_path: Path) -> None:
    message = refusal(lambda: locate((json_files(server),), tmp_path))
    assert f"download them from {server.url('protein/tape')}, or leave data_dir out" in message


# Forms that are downloaded


def test_a_form_in_the_cache_is_preferred_to_a_download(server: Server, cache: Path) -> None:
    files = touch(cache, *(source.path for source in FASTA))
    assert locate((json_files(server), FASTA), None) == tuple(files)
    assert server.paths == []


def test_the_first_form_that_can_be_downloaded_is(server: Server, cache: Path) -> None:
    found = locate((FASTA, json_files(server)), None)
    assert found == (cache / "protein/tape/train.json", cache / "protein/tape/valid.json")
    assert server.paths == ["/protein/tape/train.json", "/protein/tape/valid.json"]


def test_only_what_a_form_lacks_is_downloaded(server: Server, cache: Path) -> None:
    (file,) = touch(cache, "tape/train.json")
    assert locate((json_files(server),), None) == (file, cache / "protein/tape/valid.json")
    assert server.paths == ["/protein/tape/valid.json"]


def test_a_form_that_fails_gives_way_to_the_next_and_says_so(
    server: Server, cache: Path, closed_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    first = gone(closed_port, "protein/all.fa")
    assert locate(((first,), json_files(server)), None)[0].read_bytes() == b"[]"
    (line,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("downloading")]
    assert line.startswith("protein/all.fa: ") and first.url in line
    assert line.endswith("; trying protein/tape/train.json and 1 more")


def test_when_all_forms_fail_one_line_has_each_reason_and_the_remedy(
    server: Server, cache: Path, closed_port: int
) -> None:
    server.statuses = [404]
    first, second = gone(closed_port, "a.fa"), Source(path="b.json", url=server.url("b.json"))
    message = refusal(lambda: locate(((first,), (second,), FASTA), None))
    for part in (
        f"{first.url}: no connection, Connection refused",
        f"{second.url}: the server answered 404",
        f"{FASTA[0].path} and 1 more (from {HOME})",
        f"into {cache} by hand",
        "data_dir",
    ):
        assert part in message
    assert files_in(cache) == set()


def test_what_can_only_be_had_by_hand_says_where(cache: Path) -> None:
    message = refusal(lambda: locate((FASTA,), None))
    assert "cannot be downloaded" in message and f"(from {HOME}) into {cache} by hand" in message


def test_generated_data_has_no_files(cache: Path, tmp_path: Path) -> None:
    assert locate(((),), None) == () and locate(((),), tmp_path) == ()
