"""T."""

__all__: list[str] = []


class MicroPrice:
    def __init__(self, *a):
        pass
