"""``python -m deploy.reference``: write the generated documents."""

from deploy.reference import FOLDER, pages

for name, text in pages().items():
    (FOLDER / name).write_text(text, encoding="utf-8")
