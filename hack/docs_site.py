"""Hooks of mkdocs for the documentation site.

Pages link to each other, and to files of the repository, by relative paths, as GitHub shows them. The site has
the pages of docs/ and those of the root that the navigation names. A link to one of these becomes a link of the
site; a link to anything else of the repository becomes one to the repository itself.
"""

import os
import posixpath
import re

from mkdocs.structure.files import File

FENCE = re.compile(r"^(\s*```.*?^\s*```)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^()\s]+)\)")
NOT_IN_ANCHORS = re.compile(r"[^\w\- ]")


def root(config):
    return os.path.dirname(config["config_file_path"])


def named(nav):
    """Yields all pages that a navigation names."""
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, dict):
        for part in nav.values():
            yield from named(part)
    elif isinstance(nav, list):
        for part in nav:
            yield from named(part)


def with_folders(nav, docs):
    """Returns a navigation in which each folder, an entry that ends with a slash, is the list of its pages."""
    if isinstance(nav, str) and nav.endswith("/"):
        return [nav + name for name in sorted(os.listdir(os.path.join(docs, nav))) if name.endswith(".md")]
    if isinstance(nav, dict):
        return {title: with_folders(part, docs) for title, part in nav.items()}
    if isinstance(nav, list):
        return [with_folders(part, docs) for part in nav]
    return nav


def anchor(text, separator):
    """Returns the anchor of a heading as GitHub makes it, and as internal/structure checks it."""
    return NOT_IN_ANCHORS.sub("", text).lower().replace(" ", separator)


def on_config(config):
    config["nav"] = with_folders(config["nav"], config["docs_dir"])
    config["mdx_configs"].setdefault("toc", {})["slugify"] = anchor
    return config


def on_files(files, config):
    for name in named(config["nav"]):
        own = os.path.join(config["docs_dir"], name)
        if not os.path.exists(own) and os.path.exists(os.path.join(root(config), name)):
            files.append(File(name, root(config), config["site_dir"], config["use_directory_urls"]))
    return files


def on_page_markdown(markdown, page, config, files):
    source = page.file.src_path.replace(os.sep, "/")
    of_docs = page.file.abs_src_path.startswith(config["docs_dir"] + os.sep)
    # Where the page stands in the repository, and where in the site.
    here = posixpath.dirname(posixpath.join("docs", source) if of_docs else source)
    there = posixpath.dirname(source)

    def moved(match):
        link = match.group(1)
        if "://" in link or link.startswith(("#", "mailto:")):
            return match.group(0)
        path, mark, heading = link.partition("#")
        target = posixpath.normpath(posixpath.join(here, path))
        for name in (target[len("docs/"):] if target.startswith("docs/") else None, target):
            if name and name.endswith(".md") and files.get_file_from_path(name):
                return "](%s%s%s)" % (posixpath.relpath(name, there or "."), mark, heading)
        kind = "tree" if os.path.isdir(os.path.join(root(config), target)) else "blob"
        return "](%s/%s/main/%s%s%s)" % (config["repo_url"].rstrip("/"), kind, target, mark, heading)

    parts = FENCE.split(markdown)
    return "".join(part if i % 2 else LINK.sub(moved, part) for i, part in enumerate(parts))
