"""Whatever an archive holds: regular files below the folder come of it, or a refusal."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tidewaiter_runtime.preload.layer_archive import Unpacking
from tidewaiter_runtime.preload.source_files import Archive, SourceFile
from tidewaiter_runtime.refusals import Refusal

from tests.serving_runtime.image_registry import special, tar

parts = st.sampled_from(["a", "b", "..", ".", "", "models", "c:", "x\\y", ".wh.a", ".wh..wh..opq", "ä", "a\nb"])
names = st.lists(parts, min_size=1, max_size=4).map("/".join)
kinds = st.sampled_from([tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
entries = st.tuples(names, st.binary(max_size=8)) | st.builds(special, names, kinds, names)
models = names.map(lambda name: f"models/{name}")
mostly_good = st.tuples(models, st.binary(max_size=8)) | entries


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(mostly_good, max_size=6), st.booleans(), st.booleans())
def test_nothing_gets_out_and_nothing_but_files_stays(
    tmp_path_factory: pytest.TempPathFactory, members: list[tuple[str, bytes]], modelcar: bool, packed: bool
) -> None:
    around = tmp_path_factory.mktemp("around")
    folder, path = around / "deep" / "folder", around / "layer"
    folder.mkdir(parents=True)
    path.write_bytes(tar(members, packed=packed))
    layer = SourceFile("layer", "", path.stat().st_size)
    archive = Archive("tar+gzip" if packed else "tar", "models" if modelcar else "", 0)
    unpacking = Unpacking(folder, "layer", lambda _: None)
    try:
        found = unpacking.archives([(SourceFile(layer.name, "", layer.size, archive=archive), path)])
    except Refusal:
        found = []
    there = [one for one in around.rglob("*") if one != path and not one.is_dir()]

    assert all(one.is_relative_to(folder) and one.is_file() and not one.is_symlink() for one in there)
    assert set(found) <= {one.relative_to(folder).as_posix() for one in there}


def test_more_entries_than_a_model_has_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidewaiter_runtime.preload.layer_archive.MOST_MEMBERS", 3)
    (tmp_path / "layer").write_bytes(tar([(f"elsewhere/{number}", b"") for number in range(4)]))
    (tmp_path / "folder").mkdir()
    layer = SourceFile("layer", "", 1, archive=Archive("tar+gzip", "models", 0))

    with pytest.raises(Refusal, match="more than 3 entries"):
        Unpacking(tmp_path / "folder", "layer", lambda _: None).archives([(layer, tmp_path / "layer")])


def test_a_chain_of_headers_ends_in_a_sentence(tmp_path: Path) -> None:
    """tarfile follows each extended header by calling itself."""
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XGLTYPE, 0
    (tmp_path / "layer").write_bytes(header.tobuf(tarfile.USTAR_FORMAT) * 5000)
    (tmp_path / "folder").mkdir()
    layer = SourceFile("layer", "", 1 << 20, archive=Archive("tar", "", 0))

    with pytest.raises(Refusal, match="is no tar archive"):
        Unpacking(tmp_path / "folder", "layer", lambda _: None).archives([(layer, tmp_path / "layer")])
