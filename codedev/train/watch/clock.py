"""Times for people."""

from __future__ import annotations


def clock(seconds: float) -> str:
    """4:05, 2:04:05, 3 d 4 h"""
    whole = round(seconds)
    days, hours, minutes = whole // 86400, whole % 86400 // 3600, whole % 3600 // 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
