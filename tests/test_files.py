"""Folders that do not fit are refused with a reason; subsets are even; writing is all or nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dml.data.folders import ImageFile, class_folders, subset
from dml.files import DataError, listing, replacing


def with_files(root, *files):
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


PAIR = ("train/cat/1.png", "train/dog/1.png", "unseen/cat/1.png", "unseen/dog/1.png")


def test_entries_are_ordered_by_class_then_path(tmp_path):
    with_files(
        tmp_path,
        *PAIR,
        "train/cat/a/b/0.JPG",
        "train/cat/.hidden.png",
        "train/cat/Thumbs.db",
        "train/.x/a.txt",
    )
    classes, (train, unseen) = class_folders(tmp_path)
    assert classes == ("cat", "dog") and len(unseen) == 2
    names = ["train/cat/1.png", "train/cat/a/b/0.JPG", "train/dog/1.png"]
    assert [(entry.name, entry.label) for entry in train] == list(zip(names, (0, 0, 1), strict=True))


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ((*PAIR, "train/readme.txt"), r"readme\.txt is in no class"),
        ((*PAIR, "train/cat/readme.txt"), r"train/cat/readme\.txt; known are .*\.png"),
        ((*PAIR, "unseen/dog/extensionless"), "unseen/dog/extensionless; known"),
        ((*PAIR, "train/emu/1.png"), "only in train/: emu; only in unseen/: none"),
        ((*PAIR, "train/emu/.x", "unseen/emu/1.png"), "emu holds no image"),
        (PAIR[:2], "no folder unseen/"),
        (PAIR[2:], "no folder train/"),
        ((PAIR[0], PAIR[2]), "holds 1 class folders; at least 2"),
    ],
)
def test_errors_of_the_layout(tmp_path, files, text):
    with pytest.raises(DataError, match=text):
        class_folders(with_files(tmp_path, *files))


@given(sizes=st.lists(st.integers(1, 30), min_size=2, max_size=5), count=st.integers(1, 120))
def test_subset_properties(sizes, count):
    entries = [ImageFile(f"{label}/{i}", None, label) for label, size in enumerate(sizes) for i in range(size)]
    if count < len(sizes) and count < len(entries):
        with pytest.raises(DataError, match=f"{count} images cannot cover {len(sizes)} classes"):
            subset(entries, count, len(sizes), seed=(0, 0))
        return
    chosen = subset(entries, count, len(sizes), seed=(0, 0))
    taken = [sum(entry.label == label for entry in chosen) for label in range(len(sizes))]
    assert len(chosen) == min(count, len(entries)) == len(set(chosen))
    assert chosen == [entry for entry in entries if entry in set(chosen)]  # the order stays
    short = [take for take, size in zip(taken, sizes, strict=True) if take < size]
    assert not short or max(taken) - min(short) <= 1  # only a class that gave all it has gives less
    assert set(chosen) <= set(subset(entries, count + 1, len(sizes), seed=(0, 0)))


def test_replacing_is_all_or_nothing(tmp_path):
    file = tmp_path / "new" / "file"
    for text in ("one", "two"):
        with replacing(file) as part:
            part.write_text(text)
        assert file.read_text() == text and list(file.parent.iterdir()) == [file]
    with pytest.raises(KeyError), replacing(file) as part:
        part.write_text("three")
        raise KeyError
    assert file.read_text() == "two" and list(file.parent.iterdir()) == [file]
    with pytest.raises(DataError, match=r"cannot write .*below"), replacing(file / "below"):
        pass


def test_listing():
    assert listing("ab") == "a, b" and listing("abcdefg", most=2) == "a, b and 5 more"
