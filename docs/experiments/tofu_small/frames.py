"""The frames that efface's own forms put around a question and its answer, read from its file of templates."""
import json
import re
from pathlib import Path

BUILTIN = Path(__file__).resolve().parents[3] / "src/data/forms/builtin.json"
# forms whose target is the answer itself, told of the question alone
TRAINED = ("question", "cloze", "dialogue", "instruction", "json", "table", "key-value", "code", "affirmative", "injected", "hint")


def frames(path=BUILTIN):
    """(form, text before the answer with {q}, text behind it, whether values are escaped as in a JSON string).

    Templates for the chat come out as efface writes them without a chat template: Question: ... Answer: ...
    """
    made = []
    forms = json.loads(Path(path).read_text(encoding="utf-8"))["forms"]
    for name in TRAINED:
        for template in forms[name]["templates"]:
            if isinstance(template, dict) and "user" in template:
                text = f"Question: {template['user']}\nAnswer: [[{template['assistant']}]]"
            else:
                text = template["text"] if isinstance(template, dict) else template
            slots = set(re.findall(r"\{(\w+)\}", text))
            if not slots & {"question", "own_question"} or not slots <= {"question", "own_question", "object", "initial", "length"}:
                continue
            before, behind = text.split("[[{object}]]")
            one = (name, before.replace("{own_question}", "{question}"), behind, forms[name].get("escape") == "json")
            if one not in made:
                made.append(one)
    return made


def told(frame, question, answer):
    """The text before the answer, the answer, and the text behind it."""
    _, before, behind, escaped = frame
    if escaped:
        question, answer = (json.dumps(text, ensure_ascii=False)[1:-1] for text in (question, answer))
    values = {"question": question, "initial": answer[:1], "length": str(len(answer))}
    return re.sub(r"\{(question|initial|length)\}", lambda slot: values[slot.group(1)], before), answer, behind
