"""Exceptions by name. Source: SDM vol. 3A, table 6-1, "Protected-Mode Exceptions and Interrupts"; APM vol. 2, 8.2."""

from enum import IntEnum


class Vector(IntEnum):
    """Vectors that the architectures define."""

    DE = 0
    DB = 1
    NMI = 2
    BP = 3
    OF = 4
    BR = 5
    UD = 6
    NM = 7
    DF = 8
    TS = 10
    NP = 11
    SS = 12
    GP = 13
    PF = 14
    MF = 16
    AC = 17
    MC = 18
    XM = 19
    VE = 20
    CP = 21
    HV = 28
    VC = 29
    SX = 30


WITH_ERROR_CODE = frozenset(
    (Vector.DF, Vector.TS, Vector.NP, Vector.SS, Vector.GP, Vector.PF, Vector.AC, Vector.CP, Vector.VC, Vector.SX)
)
"""Of which the processor pushes an error code."""


def vector_name(vector: int) -> str:
    """As manuals write it: ``#PF``; ``vector 9`` where it has no name."""
    try:
        return f"#{Vector(vector).name}"
    except ValueError:
        return f"vector {vector}"
