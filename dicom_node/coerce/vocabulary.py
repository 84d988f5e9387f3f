"""Words that may stay in a description: those of anatomy, views, contrast and sequences.

To clean a description is to keep the words that everybody uses and to drop all others (PS3.15
E.3.5): a list of allowed words cannot miss a name that it never heard of.
"""

from __future__ import annotations

import re
from functools import cache

_CONTEXT_GROUPS = (
    "CID2",  # Anatomic Modifier
    "CID4",  # Anatomic Region
    "CID12",  # Radiographic Contrast Agent
    "CID29",  # Acquisition Modality
    "CID244",  # Laterality
    "CID4010",  # DX View
    "CID4011",  # DX View Modifier
    "CID4014",  # View for Mammography
    "CID4028",  # Craniofacial Anatomic Region
    "CID4031",  # Common Anatomic Region
)
"""Of PS3.16, as pydicom carries them."""

_OTHER_WORDS = """
    abd abdo abdomen abdominal ac acetabulum acq adc angio angiography ap arterial ascending asir
    asl atlas ax axial bilat bilateral blood bold body bone bones brain breast bravo breath
    bronchial cap cardiac ce cerebral chest ciss clear contrast cor coronal coronary cr cspine ct
    cta ctpa cube cxr deep delay delayed dixon dose dti dual dwi dx dynamic early ecg echo enhanced
    epi erect exam expiration ext fast fat fatsat fb ffe fgre fiesta filter flair flash foot fov
    frontal fs fse full gated ge gr grappa gre haste hd head hires hrct image images imaging
    inspiration inverted ir iso iv kernel kidney kidneys knee lat lateral lava left leg
    liver loc localizer localiser long lspine lung lungs mag map mediastinum medium min mip mix
    mm mpr mprage mra mri mrcp mrv multi native neck neuro noncontrast nonenhanced oblique obl one
    opposed out pa pancreas parenchyma pd pelvis perf perfusion phase plain plus portable portal
    post pre prone propeller protocol pwi rad recon reconstruction reformat resp right routine
    sag sagittal scan scout se sense sequence series short sinus slice smart soft space spair spc
    spgr spin spine spir spleen ss stir standard std study supine supp survey swi t1 t1w t2 t2w tc
    thick thin thorax thoracic thrive time tirm tissue tof tra trace trans transverse true trufi tse
    tspine two unenhanced upper upright us vein venous vibe view volume vrt w wb whole with without
    wo window xr bh b0 b50 b1000 1mm 2mm 3mm 5mm 2d 3d 4d 1 2 3 4 5 6 7 8 9 10
"""

_WORD = re.compile(r"[^\W_]+")


@cache
def allowed_words() -> frozenset[str]:
    """Return the words, in lower case."""
    from pydicom.sr.codedict import codes  # seven thousand concepts, for who cleans descriptions

    words = set(_OTHER_WORDS.split())
    for group in _CONTEXT_GROUPS:
        for code in getattr(codes, group).concepts.values():
            words.update(word.lower() for word in _WORD.findall(code.meaning))
    return frozenset(words)


def cleaned(text: str) -> str:
    """Return a description without the words that are not on the list, "" if none is left."""
    allowed = allowed_words()
    kept = [word for word in _WORD.findall(text) if word.lower() in allowed]
    return " ".join(kept) if any(not word.isdigit() for word in kept) else ""
