BACKEND: str

Finding = tuple[int, str, int, int, int, str]
"""(index, verdict, lots, total before, total after, basis); verdict: first gap late duplicate reset excess."""

class Continuity:
    """Judges trades in the order given, and returns those that are not plainly the next one."""

    def observe_records(self, records: bytes) -> list[Finding]: ...
    def observe_columns(
        self,
        code: object,  # int32 buffers, like the others of equal length
        lane: object,  # uint8
        futures: object,  # uint8
        exchange_ns: object,  # int64
        volume: object,  # uint32
        total_volume: object,  # uint32
        payload: object,  # uint64, equal exactly when all the source sent is equal
    ) -> list[Finding]: ...
    def counters(self) -> list[tuple[str, int]]: ...

def session_window(exchange_ns: int, futures: bool) -> tuple[int, bool]: ...
def multiset_hash(records: bytes) -> tuple[int, int]: ...
