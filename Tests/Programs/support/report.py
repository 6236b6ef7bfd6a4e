"""`ok`, `not ok` and `skip` lines, and the count at the end."""


class Report:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def ok(self, sentence):
        self.passed += 1
        print(f"ok - {sentence}", flush=True)

    def not_ok(self, sentence, why):
        self.failed += 1
        print(f"not ok - {sentence}: {why}", flush=True)

    def skip(self, sentence, why):
        self.skipped += 1
        print(f"skip - {sentence}: {why}", flush=True)

    def finish(self):
        """Prints the last line. Returns the exit code."""
        print(f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped")
        return 1 if self.failed else 0
