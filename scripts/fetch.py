#!/usr/bin/env python3
"""Fetches one file of a package from pip's index and goes on where an earlier try was cut off.

usage: scripts/fetch.py PACKAGE FILE SHA256 FOLDER

Index, certificates and proxies are pip's own (its configuration, PIP_INDEX_URL). What has come so far lies in
FOLDER/FILE.part; it becomes FOLDER/FILE when the hash is right. Exit code 1 where that does not work: then
scripts/setup.sh asks pip itself, which starts anew each time.
"""
import hashlib
import os
import re
import sys
import time
from html.parser import HTMLParser
from urllib.parse import unquote, urljoin, urlsplit

TRIES, TIMEOUT_S, CHUNK = 6, 60, 1 << 20


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.links = []

    def handle_starttag(self, tag, attributes):
        if tag == "a" and dict(attributes).get("href"):
            self.links.append(dict(attributes)["href"])


def session_of_pip():
    from pip._internal.commands import create_command

    command = create_command("download")
    options, _ = command.parse_args(["unused"])  # reads pip's configuration and environment
    return command._build_session(options), [options.index_url, *options.extra_index_urls]


def find_link(session, indexes, package, file):
    name = re.sub(r"[-_.]+", "-", package).lower()
    for index in indexes:
        page = session.get(f"{index.rstrip('/')}/{name}/", headers={"Accept": "text/html"}, timeout=TIMEOUT_S)
        if page.status_code != 200:
            continue
        parser = Links()
        parser.feed(page.text)
        for link in parser.links:
            url = urljoin(page.url, link)
            if unquote(os.path.basename(urlsplit(url).path)) == file:
                return url
    raise LookupError(f"the index has no {file}")


def fetch_rest(session, url, part):
    """Appends what is missing; whether the file is complete."""
    have = os.path.getsize(part) if os.path.exists(part) else 0
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with session.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as answer:
        if answer.status_code == 416:  # nothing is missing
            return True
        answer.raise_for_status()
        if have and answer.status_code == 206:
            print(f"going on at {have >> 20} MB", file=sys.stderr)
        length = answer.headers.get("Content-Length")
        start = have if answer.status_code == 206 else 0
        with open(part, "ab" if start else "wb") as out:
            for chunk in answer.raw.stream(CHUNK, decode_content=False):
                out.write(chunk)
    return length is None or os.path.getsize(part) >= start + int(length)


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(CHUNK), b""):
            digest.update(chunk)
    return digest.hexdigest()


def main():
    package, file, wanted, folder = sys.argv[1:]
    part = os.path.join(folder, file + ".part")
    session, indexes = session_of_pip()
    url = find_link(session, indexes, package, file)
    for attempt in range(TRIES):
        try:
            if fetch_rest(session, url, part):
                break
        except OSError as problem:  # requests' errors are OSErrors too
            print(f"{file}: {problem}", file=sys.stderr)
        time.sleep(min(30, 2**attempt))
    if sha256(part) != wanted:
        os.remove(part)
        raise SystemExit(f"{file}: another SHA-256 than third_party/artifacts.txt names")
    os.replace(part, os.path.join(folder, file))


if __name__ == "__main__":
    try:
        main()
    except Exception as problem:  # pip's inner parts may differ by version: whatever fails, pip itself is asked next
        raise SystemExit(f"{problem.__class__.__name__}: {problem}")
