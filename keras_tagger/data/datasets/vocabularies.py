"""The published vocabularies, in the order of the outputs of published models."""

from __future__ import annotations


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(";"))


# MagnaTagATune's 50 most frequent of 188.
MTAT_50 = _names(
    "guitar; classical; slow; techno; strings; drums; electronic; rock; fast; piano; ambient; beat; violin; vocal; "
    "synth; female; indian; opera; male; singing; vocals; no vocals; harpsichord; loud; quiet; flute; woman; "
    "male vocal; no vocal; pop; soft; sitar; solo; man; classic; choir; voice; new age; dance; male voice; "
    "female vocal; beats; harp; cello; no voice; weird; country; metal; female voice; choral"
)

# Tags of Last.fm in the Million Song Dataset: the conventional 50, and the 50 of CALS.
MSD_50 = _names(
    "rock; pop; alternative; indie; electronic; female vocalists; dance; 00s; alternative rock; jazz; beautiful; "
    "metal; chillout; male vocalists; classic rock; soul; indie rock; Mellow; electronica; 80s; folk; 90s; chill; "
    "instrumental; punk; oldies; blues; hard rock; ambient; acoustic; experimental; female vocalist; guitar; "
    "Hip-Hop; 70s; party; country; easy listening; sexy; catchy; funk; electro; heavy metal; Progressive rock; "
    "60s; rnb; indie pop; sad; House; happy"
)
CALS_50 = _names(
    "rock; pop; indie; alternative; electronic; hip-hop; metal; jazz; punk; folk; alternative rock; indie rock; "
    "dance; hard rock; 00s; soul; hardcore; 80s; country; classic rock; punk rock; blues; chillout; experimental; "
    "heavy metal; death metal; 90s; reggae; progressive rock; ambient; acoustic; beautiful; british; rnb; funk; "
    "metalcore; mellow; world; guitar; trance; indie pop; christian; house; spanish; latin; psychedelic; electro; "
    "piano; 70s; progressive metal"
)

# MTG-Jamendo's 50 most frequent (its data/tags/top50.txt), each with its category.
JAMENDO_50 = tuple(
    f"{category}---{name}"
    for category, names in (
        (
            "genre",
            "alternative; ambient; atmospheric; chillout; classical; dance; downtempo; easylistening; electronic; "
            "experimental; folk; funk; hiphop; house; indie; instrumentalpop; jazz; lounge; metal; newage; "
            "orchestral; pop; popfolk; poprock; reggae; rock; soundtrack; techno; trance; triphop; world",
        ),
        (
            "instrument",
            "acousticguitar; bass; computer; drummachine; drums; electricguitar; electricpiano; guitar; keyboard; "
            "piano; strings; synthesizer; violin; voice",
        ),
        ("mood/theme", "emotional; energetic; film; happy; relaxing"),
    )
    for name in _names(names)
)

GTZAN_10 = _names("blues; classical; country; disco; hiphop; jazz; metal; pop; reggae; rock")
