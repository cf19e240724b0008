"""The report in a browser of this machine, made again when records change."""

from urllib.request import urlopen

import pytest

from reports import cli, serving
from reports.serving import RELOAD, watch


def get(address):
    with urlopen(address, timeout=10) as answer:
        return answer.read().decode()


@pytest.fixture
def server(tmp_path):
    (tmp_path / "index.html").write_text("<p>one</p>")
    (tmp_path / "table.csv").write_text("a,b")
    with serving.serving(tmp_path) as found:
        yield found


def test_pages_load_again_and_files_are_as_they_are(server, tmp_path):
    assert get(server.address) == "<p>one</p>" + RELOAD
    assert get(server.address.replace("index.html", "table.csv")) == "a,b"
    assert (tmp_path / "index.html").read_text() == "<p>one</p>"


def test_the_version_is_told(server):
    address = server.address.replace("/index.html", serving.VERSION)
    before = get(address)
    server.version += 1
    assert get(address) != before


def test_nobody_else_can_reach_it(server):
    assert server.server_address[0] == serving.LOOPBACK


def test_a_change_is_seen_once(tmp_path):
    """Four looks, with a change after the second."""
    file, changes, looks = tmp_path / "a.jsonl", [], []

    def go_on():
        looks.append(None)
        if len(looks) == 3:
            file.write_text("x")
        return len(looks) < 5

    watch([tmp_path, file], lambda: changes.append(len(looks)), go_on, seconds=0.0)
    assert changes == [1, 3]


def test_the_report_is_made_once_there_are_records(store, make, tmp_path, capsys, monkeypatch):
    """Until then, the error is told, and it goes on."""
    inputs, made = tmp_path / "records", []

    def looks(paths, changed):
        changed()
        store([make()])
        changed()
        made.append((tmp_path / "html" / "index.html").exists())
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "watch", looks)
    inputs.mkdir()
    output = str(tmp_path / "html")
    assert cli.main(["--input", str(inputs), "--output", output, "--serve", "0"]) == 0
    said = capsys.readouterr()
    assert made == [True]
    assert said.out.startswith(f"http://{serving.LOOPBACK}:")
    assert said.err.startswith("error: no record files")
