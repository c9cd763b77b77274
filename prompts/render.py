#!/usr/bin/env python3
"""Makes the prompt WAV files and manifest.json from the catalogues; see README.md beside it.

    prompts/render.py                    every prompt of every language
    prompts/render.py --lang de bye      only these ids of one language
    prompts/render.py --check            renders nothing; tells what does not fit the manifest
    prompts/render.py --engine pico      another voice (needs pico2wave)

Needs Python 3.11, sox and the engine. The same versions give the same bytes.
"""

import argparse
import array
import hashlib
import json
import math
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
import wave
from concurrent.futures import ProcessPoolExecutor

HERE = pathlib.Path(__file__).resolve().parent
RATE = 16_000
FULL = 32_767.0
SPEECH_DBOV = -22.0
TONE_DBOV = -26.0
# Peaks bend from KNEE on and never pass CEILING (-3.2 dBFS).
KNEE, CEILING = 0.50, 0.692
# ITU-T P.56: frames this far below the active level are pauses.
PAUSE_DB = 15.9
FRAME = RATE // 50
FADE_MS = 5

# Silence before and after the speech, in ms, so that prompts of an utterance follow one another as
# words do in a sentence. First match wins.
EDGES = [
    (r"digit_\d", 40, 160),
    (r"rest_pre|whisper_card|beratung_nr|closed_next", 60, 40),
    (r"rest_post", 20, 100),
    (r"(number|hundred|thousand|hour|minute|second)_.*|and", 15, 35),
    (r".*", 60, 100),
]
# Prompts that something follows are spoken with the voice held up, as before a comma.
CONTINUES = r"(number|hundred|thousand|hour|minute|second|digit)_.*|and|rest_pre"

ENGINES = {
    "espeak": {
        "voices": {"de": "de", "en": "en-gb"},
        "command": "espeak-ng -v {voice} -s {speed} -w {raw} {text}",
        "speed": {"de": 195, "en": 185},
        "shelf_db": 3,
        "version": ["espeak-ng", "--version"],
        "licence": "spoken by eSpeak NG (GPL-3.0-or-later); see prompts/README.md",
    },
    "pico": {
        "voices": {"de": "de-DE", "en": "en-GB"},
        "command": "pico2wave -l {voice} -w {raw} {text}",
        "speed": {"de": 100, "en": 100},
        "shelf_db": 12,
        "version": ["dpkg-query", "-W", "-f", "svox pico ${Version}", "libttspico-utils"],
        "licence": "spoken by SVOX Pico (Apache-2.0, voice data without source); see prompts/README.md",
    },
}
MASTER = (
    "sox -R -D {raw} -t f32 -r 16000 -c 1 {mastered} gain -9 highpass 200 treble {shelf_db} 1800 "
    "lowpass 7000 compand 0.005,0.12 6:-70,-70,-40,-37,-24,-20,-6,-9 0 -40 0.005"
)
# Frequency in Hz, tone ms, pause ms: soft sines with raised-cosine edges.
TONES = {
    "beep_10": [(880, 140, 110), (880, 140, 110), (880, 140, 0)],
    "adv_beep_60": [(660, 130, 70), (660, 130, 0)],
}


def catalogue(lang):
    with open(HERE / lang / "catalogue.toml", "rb") as file:
        table = tomllib.load(file)
    return table["prompts"], table.get("say", {})


def languages():
    return sorted(path.parent.name for path in HERE.glob("*/catalogue.toml"))


def edges(prompt):
    return next((lead, tail) for rule, lead, tail in EDGES if re.fullmatch(rule, prompt))


def frame_levels(samples):
    """Mean square of each whole frame of 20 ms."""
    frames = range(0, len(samples) - FRAME + 1, FRAME)
    return [sum(s * s for s in samples[at : at + FRAME]) / FRAME for at in frames]


def active_dbov(samples):
    """Level of the speech without its pauses, after the idea of ITU-T P.56: the level at which
    exactly the frames less than PAUSE_DB below it are counted."""
    levels = frame_levels(samples)
    active = [level for level in levels if level > 0]
    for _ in range(20):
        mean = sum(active) / len(active)
        floor = mean / 10 ** (PAUSE_DB / 10)
        kept = [level for level in levels if level >= floor]
        if len(kept) == len(active):
            break
        active = kept
    return 10 * math.log10(sum(active) / len(active))


def trim(samples):
    """Cuts what lies 45 dB under the loudest 5 ms at both ends."""
    step = RATE // 200
    power = [sum(s * s for s in samples[at : at + step]) for at in range(0, len(samples), step)]
    floor = max(power) / 10**4.5
    loud = [at for at, value in enumerate(power) if value >= floor]
    return samples[loud[0] * step : (loud[-1] + 1) * step]


def limit(sample):
    size = abs(sample)
    if size <= KNEE:
        return sample
    room = CEILING - KNEE
    return math.copysign(KNEE + room * math.tanh((size - KNEE) / room), sample)


def level_to(samples, dbov):
    """Brings the speech to this level; bent peaks cost level, so it is approached in steps."""
    gain = 0.0
    for _ in range(12):
        out = [limit(s * 10 ** (gain / 20)) for s in samples]
        missing = dbov - active_dbov(out)
        if abs(missing) < 0.02:
            break
        gain += missing
    return out


def faded(samples):
    count = RATE * FADE_MS // 1000
    for at in range(min(count, len(samples) // 2)):
        share = 0.5 - 0.5 * math.cos(math.pi * at / count)
        samples[at] *= share
        samples[-1 - at] *= share
    return samples


def tone(parts):
    out = []
    for hertz, tone_ms, pause_ms in parts:
        count, rise = RATE * tone_ms // 1000, RATE * 25 // 1000
        for at in range(count):
            edge = min(1.0, at / rise, (count - 1 - at) / rise)
            share = 0.5 - 0.5 * math.cos(math.pi * edge)
            out.append(share * math.sin(2 * math.pi * hertz * at / RATE))
        out += [0.0] * (RATE * pause_ms // 1000)
    return out


def spoken_text(prompt, text, say):
    for word, instead in say.items():
        text = re.sub(rf"\b{re.escape(word)}\b", lambda _: instead, text)
    return text.rstrip(" ,.:") + "," if re.fullmatch(CONTINUES, prompt) else text


def spoken(prompt, text, engine, lang):
    """Samples in -1..1 at RATE, and the commands that made them."""
    rules = ENGINES[engine]
    with tempfile.TemporaryDirectory() as place:
        raw, mastered = f"{place}/raw.wav", f"{place}/mastered.f32"
        fields = {"voice": rules["voices"][lang], "speed": rules["speed"][lang]}
        fields |= {"shelf_db": f"+{rules['shelf_db']}"}
        speak = rules["command"].format(raw="{raw}", text="{text}", **fields)
        master = MASTER.format(raw="{raw}", mastered="{mastered}", **fields)
        for command in (speak, master):
            files = {"raw": raw, "mastered": mastered, "text": text}
            words = [word.format(**files) for word in shlex.split(command)]
            subprocess.run(words, check=True)
        samples = array.array("f")
        samples.frombytes(pathlib.Path(mastered).read_bytes())
    shown = speak.format(raw="raw.wav", text=shlex.quote(text))
    return list(samples), [shown, master.format(raw="raw.wav", mastered="mastered.f32")]


def render(job):
    lang, prompt, text, say, engine, version = job
    lead, tail = edges(prompt)
    if prompt in TONES:
        kind, commands, said = "tone", [f"tone {TONES[prompt]}"], None
        samples, dbov = tone(TONES[prompt]), TONE_DBOV
        made_by = {"engine": "prompts/render.py", "version": "1", "voice": "sine"}
        licence = "synthesised here; licence of this repository"
    else:
        kind, said = "speech", spoken_text(prompt, text, say)
        samples, commands = spoken(prompt, said, engine, lang)
        samples, dbov = faded(trim(samples)), SPEECH_DBOV
        made_by = {"engine": engine, "version": version, "voice": ENGINES[engine]["voices"][lang]}
        licence = ENGINES[engine]["licence"]
    silence = lambda ms: [0.0] * (RATE * ms // 1000)
    samples = level_to(silence(lead) + samples + silence(tail), dbov)
    pcm = array.array("h", (round(s * FULL) for s in samples))
    if sys.byteorder == "big":
        pcm.byteswap()
    path = HERE / lang / f"{prompt}.wav"
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(pcm.tobytes())
    measured = [s / FULL for s in pcm]
    return f"{lang}/{prompt}.wav", {
        "text": text,
        "said": said,
        "kind": kind,
        **made_by,
        "commands": commands,
        "edges_ms": [lead, tail],
        "licence": licence,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "seconds": round(len(pcm) / RATE, 3),
        "dbov": round(active_dbov(measured), 2),
        "peak_dbfs": round(20 * math.log10(max(map(abs, measured))), 2),
    }


def engine_version(engine):
    if not shutil.which(ENGINES[engine]["version"][0]):
        sys.exit(f"{engine} is not installed; see prompts/README.md")
    out = subprocess.run(ENGINES[engine]["version"], check=True, capture_output=True, text=True)
    return out.stdout.strip().split("  ")[0].removeprefix("eSpeak NG text-to-speech: ")


def check(manifest):
    faults = []
    wanted = {f"{lang}/{prompt}.wav": text for lang in languages() for prompt, text in catalogue(lang)[0].items()}
    present = {f"{path.parent.name}/{path.name}" for path in HERE.glob("*/*.wav")}
    for name in sorted(wanted.keys() | manifest.keys() | present):
        if name not in wanted:
            faults.append(f"{name}: in no catalogue")
        elif name not in manifest or name not in present:
            faults.append(f"{name}: not rendered")
        elif manifest[name]["text"] != wanted[name]:
            faults.append(f"{name}: text changed since it was rendered")
        elif manifest[name]["sha256"] != hashlib.sha256((HERE / name).read_bytes()).hexdigest():
            faults.append(f"{name}: not the file that was rendered")
    return faults


def main():
    parser = argparse.ArgumentParser(description="renders the prompts")
    parser.add_argument("--lang", choices=languages())
    parser.add_argument("--engine", choices=sorted(ENGINES), default="espeak")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("ids", nargs="*")
    options = parser.parse_args()
    index = HERE / "manifest.json"
    manifest = json.loads(index.read_text(encoding="utf-8"))["files"] if index.exists() else {}
    if not options.check:
        version = engine_version(options.engine)
        jobs = []
        for lang in [options.lang] if options.lang else languages():
            texts, say = catalogue(lang)
            if unknown := [prompt for prompt in options.ids if prompt not in texts]:
                sys.exit(f"{lang}/catalogue.toml has no {', '.join(unknown)}")
            chosen = options.ids or texts
            jobs += [(lang, prompt, texts[prompt], say, options.engine, version) for prompt in chosen]
        with ProcessPoolExecutor(2) as pool:
            for done, (name, entry) in enumerate(pool.map(render, jobs, chunksize=8), 1):
                manifest[name] = entry
                if sys.stderr.isatty():
                    print(f"\r{done}/{len(jobs)} {name:32}", end="", file=sys.stderr)
        if sys.stderr.isatty():
            print(file=sys.stderr)
        text = json.dumps({"rate_hz": RATE, "files": dict(sorted(manifest.items()))}, indent=1, ensure_ascii=False)
        index.write_text(text + "\n", encoding="utf-8")
    if faults := check(manifest):
        sys.exit("\n".join(faults))
    seconds = sum(entry["seconds"] for entry in manifest.values())
    print(f"{len(manifest)} prompts, {seconds:.0f} s, all as the manifest says")


if __name__ == "__main__":
    main()
