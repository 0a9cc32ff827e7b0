"""The vendor's WebSocket clusters.

``topics`` and ``session`` are rules, ``encode`` is the wire, ``feed`` and ``connection`` move events.
"""
