"""A yt-dlp plugin for the videos of `standin.Videos`, with YouTube's error messages and HTTP statuses."""

from typing import Any

from yt_dlp.extractor.common import InfoExtractor


class LoopbackIE(InfoExtractor):
    """Reads `{"media": URL}` or `{"said": error message of YouTube}`."""

    _VALID_URL = r"http://127\.0\.0\.1:\d+/video/(?P<id>[A-Za-z0-9_-]{11})"

    def _real_extract(self, url: str) -> dict[str, Any]:
        ytid = self._match_id(url)
        page = self._download_json(url, ytid)
        if said := page.get("said"):
            self.raise_no_formats(said, expected=True, video_id=ytid)
        return {"id": ytid, "title": ytid, "url": page["media"], "ext": "flac", "vcodec": "none"}
