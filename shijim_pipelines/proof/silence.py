"""x. y."""


def holes(*a):
    return []
