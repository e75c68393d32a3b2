"""Music libraries: tags in the files themselves, sidecar files beside them, and playlists."""
