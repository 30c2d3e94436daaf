"""What each tree is about, in words, and which trees are kept for testing: those that share no words with the rest."""

from schemas.attempts import ROOT
from transforms.attempts.tree import Tree
from transforms.language.contamination import Keys, held_out_texts, word_runs


def questions(tree: Tree) -> dict[str, str]:
    """Return the question of every tree by name: what was asked last in its roots, else its task; trees without either are left out."""
    found = dict[str, str]()
    for root in tree.children.get(ROOT, ()):
        row = tree.rows[root]
        asked = [t.text for t in tree.turns(root) if t.role == "user" and t.text.strip()]
        if text := asked[-1] if asked else row["task"]:
            found.setdefault(row["tree"], text)
    return dict(sorted(found.items()))


def held_out_trees(tree: Tree, share: float, keys: Keys = word_runs) -> frozenset[str]:
    """Return the names of about `share` of the trees, none of whose questions shares a key with that of a tree outside.

    A tree's place depends on its own group of questions alone, so more trees move nobody, unless they join two groups.
    """
    asked = questions(tree)
    out = held_out_texts(list(asked.values()), share, keys)
    return frozenset(name for name, held in zip(asked, out.tolist(), strict=True) if held)
