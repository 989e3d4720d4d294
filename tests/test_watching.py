"""When a reload is due: files that changed and settled."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from relayx.notices import INOTIFY
from relayx.watching import LOOK, REST, FileWatch


class Watching(SynchronousTestCase):
    """Files on a real disk, and a clock of our own; nobody tells of changes."""

    inotify: Any = None

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.file, self.keys = self.folder / "config.yaml", self.folder / "keys"
        self.file.write_text("one")
        self.keys.mkdir()
        self.paths = [str(self.file), str(self.keys)]
        self.clock = MemoryReactorClock()
        self.reloads = 0
        self.said: list[str] = []
        self.watch = FileWatch(
            self.clock, lambda: self.paths, self.changed, self.said.append, self.inotify
        )
        self.watch.take_note()
        self.begin()
        self.addCleanup(self.watch.stop)

    def begin(self) -> None:
        self.watch.start()

    def changed(self) -> None:
        self.reloads += 1

    def look(self, times: int = 1) -> int:
        """Let it look; how often it told of a change so far."""
        for _ in range(times):
            self.read()
            self.clock.advance(LOOK)
        return self.reloads

    def read(self) -> None:
        """Let the reactor read what the system tells, as often as it comes to it."""
        for reader in self.clock.getReaders():
            reader.doRead()

    def replace(self, text: str, path: Path | None = None) -> None:
        """Put a new file in the place of one, by a rename."""
        new = self.folder / "new"
        new.write_text(text)
        os.replace(new, path or self.file)

    def test_nothing_changes(self) -> None:
        self.assertEqual(self.look(5), 0)

    def test_told_once_it_has_settled(self) -> None:
        self.replace("two")
        self.assertEqual(self.look(), 0)
        self.assertEqual(self.look(), 1)
        self.assertEqual(self.look(5), 1)
        self.assertIn("inotify", self.said[0])
        self.assertEqual(len(self.said), 1)

    def test_several_files_in_a_row(self) -> None:
        """Who replaces one after the other is waited for."""
        for number in range(5):
            self.replace(str(number))
            self.assertEqual(self.look(), 0)
        self.assertEqual(self.look(2), 1)

    def test_the_same_text_written_in_place(self) -> None:
        os.utime(self.file, ns=(1, 1))
        self.assertEqual(self.look(3), 1)

    def test_deleted_and_back(self) -> None:
        """A file that is gone is told of once, and again when it is back."""
        self.file.unlink()
        self.assertEqual(self.look(5), 1)
        self.file.write_text("back")
        self.assertEqual(self.look(5), 2)

    def test_in_a_directory(self) -> None:
        (self.keys / "a.pub").write_text("one")
        self.assertEqual(self.look(3), 1)
        (self.keys / "a.pub").rename(self.keys / "b.pub")
        self.assertEqual(self.look(3), 2)
        self.replace("two", self.keys / "b.pub")
        self.assertEqual(self.look(3), 3)

    def test_link_turned_elsewhere(self) -> None:
        """As a mounted volume is updated: the directory behind the link is another."""
        for name in ("v1", "v2"):
            (self.folder / name).mkdir()
            (self.folder / name / "config.yaml").write_text(name)
        (self.folder / "now").symlink_to("v1")
        self.paths = [str(self.folder / "now" / "config.yaml")]
        self.watch.take_note()
        self.watch.start()
        (self.folder / "next").symlink_to("v2")
        os.replace(self.folder / "next", self.folder / "now")
        self.assertEqual(self.look(3), 1)

    def test_what_was_read_meanwhile_is_known(self) -> None:
        self.replace("two")
        self.watch.take_note()
        self.assertEqual(self.look(5), 0)

    def test_changed_while_it_did_not_look(self) -> None:
        """What has changed since it was read is told of as soon as it is watched."""
        self.watch.stop()
        self.assertEqual((self.watch.watching, self.look(3)), (False, 0))
        self.replace("two")
        self.watch.start()
        self.assertEqual(self.look(3), 1)

    def test_other_files(self) -> None:
        """Another configuration names other files, which it has just read."""
        other = self.folder / "ca.pem"
        other.write_text("one")
        self.paths = [str(self.file), str(other)]
        self.watch.take_note_of_others()
        self.watch.start()
        self.assertEqual(self.look(3), 0)
        self.replace("two", other)
        self.assertEqual(self.look(3), 1)

    def test_change_of_the_first_behind_new_ones(self) -> None:
        """To take note of others does not hide what has changed since the reading."""
        self.replace("two")
        self.watch.take_note_of_others()
        self.assertEqual(self.look(3), 1)


class Told(Watching):
    """The same where the system tells: inotify itself, read when the test says."""

    inotify = INOTIFY
    if INOTIFY is None:
        skip = "this system has no inotify"

    def setUp(self) -> None:
        super().setUp()
        self.look()  # at the start, whatever is told

    def test_told_once_it_has_settled(self) -> None:
        """At once when it has been still for a while, and it is not looked at meanwhile."""
        self.replace("two")
        self.read()
        self.clock.advance(LOOK / 2)
        self.replace("three")
        self.read()
        self.clock.advance(LOOK * 0.9)
        self.assertEqual(self.reloads, 0)
        self.clock.advance(LOOK / 2)
        self.assertEqual(self.reloads, 1)
        self.assertEqual(self.look(5), 1)
        self.assertEqual(self.said, [])

    def test_several_files_in_a_row(self) -> None:
        """Who replaces one after the other is waited for."""
        for number in range(5):
            self.replace(str(number))
            self.read()
            self.clock.advance(LOOK / 2)
        self.assertEqual(self.reloads, 0)
        self.assertEqual(self.look(2), 1)

    def test_burst(self) -> None:
        """A thousand events are one reload."""
        for number in range(500):
            self.replace(str(number))
        self.assertEqual(self.look(2), 1)

    def test_written_in_place(self) -> None:
        """Told when it is closed; by then it is whole."""
        with self.file.open("w") as file:
            file.write("half")
            file.flush()
            self.assertEqual(self.look(3), 0)
        self.assertEqual(self.look(), 1)

    def test_others_in_the_same_directory(self) -> None:
        """A log that is written there, all the time, wakes nobody and delays nothing."""
        self.replace("two")
        self.read()
        for number in range(20):
            (self.folder / "log").write_text(str(number))
            self.read()
            self.clock.advance(LOOK / 10)
        self.assertEqual(self.reloads, 1)

    def test_as_kubernetes_does_it(self) -> None:
        """The files are links through ..data, a link that is turned to another directory; the
        directory before is removed."""
        volume = self.folder / "volume"
        (volume / "..v1").mkdir(parents=True)
        (volume / "..v1" / "config.yaml").write_text("one")
        (volume / "..data").symlink_to("..v1")
        (volume / "config.yaml").symlink_to("..data/config.yaml")
        self.paths = [str(volume / "config.yaml")]
        self.watch.take_note()
        self.watch.start()
        for number in (2, 3):
            (volume / f"..v{number}").mkdir()
            (volume / f"..v{number}" / "config.yaml").write_text(str(number))
            (volume / "..tmp").symlink_to(f"..v{number}")
            os.replace(volume / "..tmp", volume / "..data")
            (volume / f"..v{number - 1}" / "config.yaml").unlink()
            (volume / f"..v{number - 1}").rmdir()
            self.assertEqual(self.look(2), number - 1)

    def test_directory_removed_and_made_again(self) -> None:
        """What is told of the directory before ends with it."""
        for number in range(1, 3):
            self.keys.rmdir()
            self.assertEqual(self.look(2), 3 * number - 2)
            self.keys.mkdir()
            self.assertEqual(self.look(2), 3 * number - 1)
            (self.keys / "a.pub").write_text("one")
            self.assertEqual(self.look(2), 3 * number)
            (self.keys / "a.pub").unlink()
            self.look(2)
            self.reloads -= 1

    def test_not_there_yet(self) -> None:
        """A file in directories that are made later."""
        late = self.folder / "a" / "b" / "ca.pem"
        self.paths = [str(late)]
        self.watch.take_note()
        self.watch.start()
        late.parent.mkdir(parents=True)
        self.assertEqual(self.look(2), 0)
        late.write_text("one")
        self.assertEqual(self.look(2), 1)

    def test_link_to_itself(self) -> None:
        """Leads nowhere, until it is put right."""
        loop = self.folder / "loop"
        loop.symlink_to("loop")
        self.paths = [str(loop)]
        self.watch.take_note()
        self.watch.start()
        self.assertEqual(self.look(3), 0)
        self.replace("two", loop)
        self.assertEqual(self.look(2), 1)

    def test_what_nobody_tells(self) -> None:
        """Is seen at the next look all the same, once it has settled."""
        moved = self.folder / "above" / "dir"
        moved.mkdir(parents=True)
        (moved / "config.yaml").write_text("one")
        self.paths = [str(moved / "config.yaml")]
        self.watch.take_note()
        self.watch.start()
        self.assertEqual(self.look(2), 0)
        (self.folder / "above").rename(self.folder / "gone")
        self.assertEqual(self.look(2), 0)
        self.clock.advance(REST)
        self.assertEqual(self.look(), 1)

    def test_stopped(self) -> None:
        self.watch.stop()
        self.replace("two")
        self.assertEqual((self.look(3), self.clock.getReaders()), (0, []))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class TooMuch(Watching):
    """The same where inotify fails: there is no descriptor left for it."""

    inotify = INOTIFY

    def begin(self) -> None:
        with no_descriptors():
            super().begin()

    def test_told_again(self) -> None:
        """Another configuration is a reason to try it again."""
        self.assertIn("fs.inotify.max_user_instances", self.said[0])
        self.watch.start()
        self.replace("two")
        self.assertEqual(self.look(1), 1)
        self.assertTrue(self.clock.getReaders())

    def test_watches_are_at_an_end(self) -> None:
        """As is said; the files are looked at."""

        class Full(INOTIFY):  # type: ignore[misc]
            def watch(self, *_: Any, **__: Any) -> None:
                raise OSError

        watch = FileWatch(self.clock, lambda: self.paths, self.changed, self.said.append, Full)
        watch.take_note()
        watch.start()
        self.addCleanup(watch.stop)
        self.assertIn("fs.inotify.max_user_watches", self.said[-1])
        self.watch.stop()
        self.assertEqual(self.clock.getReaders(), [])
        self.replace("two")
        self.assertEqual(self.look(3), 1)


@contextmanager
def no_descriptors() -> Iterator[None]:
    """The process may open nothing more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
