"""The stitch: what a socket missed is found in the history that REST keeps, and joined in without a row lost or doubled.

Pure: the time is given by the caller, and nothing here reads or sends a byte. `massive_lab.live.gaps` moves them.
"""
