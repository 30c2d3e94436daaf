"""What prompts promise: directions, the gripper, whether they describe a change at all; and the same prompts turned into wrong ones."""

import re

# Verbs and phrases of Something-Something captions that tell of no lasting change, after AURORA (Krojer et al. 2024).
REFUSED = (
    "pretend", "holding", "fail", "roll", "then letting it", "until it falls down", "spin", "nothing happens", "show", "falling like",
    "squeezing", "throwing", "slightly",
)  # fmt: skip
_HINGED = re.compile(
    r"\b(open|close|shut|press|turn (on|off)|unlock|lock|flip|fold)\w*\b|\b(drawer|door|window|lid|lever|handle|faucet|switch|button|dial)\b",
    re.IGNORECASE,
)
_GRASPS = re.compile(r"\b(grasp|grab|grip|pick|take|close the \w*\s?gripper)\w*", re.IGNORECASE)
_RELEASES = re.compile(r"\b(release|drop|let go|open the \w*\s?gripper)\w*", re.IGNORECASE)
_TURNS = re.compile(r"\b(rotat|turn|twist|tilt|flip)\w*", re.IGNORECASE)
_COUNTS = re.compile(r"\b(add|remove|insert|take away|put in|appear|disappear|vanish)\w*\b", re.IGNORECASE)
_PAINTS = re.compile(
    r"\b(colou?r|paint|dye|make .* (red|orange|yellow|green|cyan|blue|purple|pink|grey|black|white))\b", re.IGNORECASE
)
_SIDES = ("left", "right", "up", "down")
_FROM_TO = re.compile(r"\bfrom (?:the )?(left|right|top|bottom) to (?:the )?(left|right|top|bottom)\b", re.IGNORECASE)
_TOWARDS = re.compile(r"\b(?:to|towards?|into) (?:the |your |its )?(left|right)\b(?! of\b| side of\b)", re.IGNORECASE)
_MOVES = re.compile(
    r"\b(?:mov|push|slid|pull|shift|drag|carr|nudg)\w*(?: [\w-]+){0,5}? (left|right|up|down)(?:wards?)?\b(?! of\b| \w+)",
    re.IGNORECASE,
)
_OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up", "top": "bottom", "bottom": "top"}
_ANY = re.compile(r"\b(left|right|up|down|top|bottom)(?=\b|wards?\b)", re.IGNORECASE)
_END = {"top": "up", "bottom": "down"}


def refused(caption: str) -> str:
    """Return the word for which a caption tells of no lasting change; empty where there is none. `falls off` is kept only after `but`."""
    text = caption.lower()
    for word in REFUSED:
        if re.search(rf"\b{re.escape(word)}", text):
            return word
    return "falls off" if "falls off" in text and " but " not in f" {text} " else ""


def direction_of(prompt: str) -> str:
    """Return where a prompt says something goes in the picture: left, right, up or down; empty where it does not say, or says two."""
    if (ends := _FROM_TO.search(prompt)) is not None:
        word = ends.group(2).lower()
        return _END.get(word, word)
    found = {m.group(1).lower() for pattern in (_TOWARDS, _MOVES) for m in pattern.finditer(prompt)}
    return found.pop() if len(found) == 1 else ""


def turned_around(prompt: str) -> str:
    """Return a prompt with every direction replaced by its opposite; empty where it names none."""
    if not direction_of(prompt):
        return ""
    return _ANY.sub(lambda m: _like(m.group(0), _OPPOSITE[m.group(0).lower()]), prompt)


def mirrored(prompt: str) -> str:
    """Return what a prompt says of the picture flipped left to right."""
    return re.sub(
        r"\b(left|right)(?=\b|wards?\b)",
        lambda m: _like(m.group(0), _OPPOSITE[m.group(0).lower()]),
        prompt,
        flags=re.IGNORECASE,
    )


def towards(dx: float, dy: float, least: float) -> str:
    """Return the direction of a displacement (x right, y down): empty if it is shorter than `least`, or neither axis dominates by half."""
    across, down = abs(dx), abs(dy)
    if max(across, down) < least or max(across, down) < 1.5 * min(across, down):
        return ""
    if across > down:
        return "right" if dx > 0 else "left"
    return "down" if dy > 0 else "up"


def directed(prompt: str, direction: str) -> str:
    """Return a prompt that says where to; unchanged where it already does, or there is nothing to say."""
    if not direction or direction_of(prompt):
        return prompt
    return f"{prompt} to the {direction}" if direction in ("left", "right") else f"{prompt} {direction}"


def contradicts(prompt: str, dx: float, dy: float, least: float) -> bool:
    """Tell whether a displacement in the picture goes against what a prompt says."""
    said = direction_of(prompt)
    if said not in _SIDES:
        return False
    along = {"left": -dx, "right": dx, "up": -dy, "down": dy}[said]
    return along < least


def gripper_promised(prompt: str) -> int:
    """Return what a prompt says the gripper does: -1 closes, 1 opens, 0 nothing, or both."""
    closes, opens = bool(_GRASPS.search(prompt)), bool(_RELEASES.search(prompt))
    return int(opens) - int(closes)


def kind_promised(prompt: str, phase: str) -> str:
    """Return the kind of edit that words tell; empty where they do not."""
    if phase in ("grasp", "release"):
        return "grasp"
    if _PAINTS.search(prompt):
        return "attribute"
    if phase != "push" and _TURNS.search(prompt) and not _HINGED.search(prompt):
        return "rotation"
    if _HINGED.search(prompt):
        return "articulation"
    return "count" if _COUNTS.search(prompt) else ""


def _like(old: str, new: str) -> str:
    return new.capitalize() if old[0].isupper() else new
