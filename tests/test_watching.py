"""When a reload is due: files that changed and settled, and storms of requests."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relayx.watching import GAP, LOOK, FileWatch, Requests


class Watching(SynchronousTestCase):
    """Files on a real disk, and a clock of our own."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.file, self.keys = self.folder / "config.yaml", self.folder / "keys"
        self.file.write_text("one")
        self.keys.mkdir()
        self.paths = [str(self.file), str(self.keys)]
        self.clock = Clock()
        self.reloads = 0
        self.watch = FileWatch(self.clock, lambda: self.paths, self.changed)
        self.watch.take_note()
        self.watch.start()
        self.addCleanup(self.watch.stop)

    def changed(self) -> None:
        self.reloads += 1

    def look(self, times: int = 1) -> int:
        """Let it look; how often it told of a change so far."""
        for _ in range(times):
            self.clock.advance(LOOK)
        return self.reloads

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
        self.assertEqual(self.look(3), 0)
        self.replace("two", other)
        self.assertEqual(self.look(3), 1)

    def test_change_of_the_first_behind_new_ones(self) -> None:
        """To take note of others does not hide what has changed since the reading."""
        self.replace("two")
        self.watch.take_note_of_others()
        self.assertEqual(self.look(3), 1)


class Storms(SynchronousTestCase):
    """Many requests are few reloads, and what they ask for is done after the last."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.reloads: list[float] = []
        self.requests = Requests(self.clock, self.reload)

    def reload(self) -> None:
        self.reloads.append(self.clock.seconds())

    def test_one(self) -> None:
        self.requests.ask()
        self.assertEqual(self.reloads, [])
        self.clock.advance(0)
        self.assertEqual(self.reloads, [0.0])
        self.clock.advance(10)
        self.assertEqual(self.reloads, [0.0])

    def test_a_hundred_in_a_second(self) -> None:
        for _ in range(100):
            self.requests.ask()
            self.clock.advance(0.01)
        last = self.clock.seconds()
        self.clock.advance(GAP)
        self.assertLessEqual(len(self.reloads), 2 + 1 / GAP)
        self.assertGreaterEqual(self.reloads[-1], last - 0.01)

    def test_asked_for_while_it_reloads(self) -> None:
        """What it has read by then may be what was there before."""
        again = [True, False]

        def reload() -> None:
            self.reload()
            if again.pop(0):
                self.requests.ask()

        self.requests = Requests(self.clock, reload)
        self.requests.ask()
        self.clock.pump([0, GAP])
        self.assertEqual(self.reloads, [0.0, GAP])

    def test_one_that_fails(self) -> None:
        def fail() -> None:
            self.reload()
            raise ValueError

        self.requests = Requests(self.clock, fail)
        self.requests.ask()
        self.assertRaises(ValueError, self.clock.advance, 0)
        self.requests.ask()
        self.assertRaises(ValueError, self.clock.advance, GAP)

    def test_stopped(self) -> None:
        self.requests.ask()
        self.requests.stop()
        self.assertEqual((self.clock.getDelayedCalls(), self.reloads), ([], []))
