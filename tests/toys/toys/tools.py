"""What the toy papers compute with."""


def twice(number: float) -> float:
    return number + number
