"""The flight recorder: what a replica or an authority did, in a file of JSON lines, with personal data masked on request."""

from offlinekit.recording.device import DeviceRecording
from offlinekit.recording.masks import Mask
from offlinekit.recording.service import ServiceRecording

__all__ = ["DeviceRecording", "Mask", "ServiceRecording"]
