"""Descriptions of the columns, and the label rule of each task."""

from __future__ import annotations

COLUMNS = {
    "sample_id": "name of the sample: a hash of what is shown, never of the answer",
    "task": "name of the task",
    "species": "species config",
    "images": "pictures, in the order of `views`",
    "views": "names of the pictures: front, side, top are orthographic views of meshes, em_* slices of image data, "
    "first and second the two images of a pair",
    "question": "the question, to be shown with the pictures",
    "answer": "the answer as text",
    "label": "the answer as a class; empty where the answer is a place",
    "target_nm": "points (x, y, z in nm) where the answer is a place, else empty",
    "choices": "ids of the segments to choose from, in the order of the answers a, b, c, d; else empty",
    "target_images": "masks where the answer is a picture, one a view: white (255) is what belongs to it, grey (127) "
    "the rest of the segment; else empty",
    "location_nm": "centre of all views: x, y, z in nm",
    "extent_nm": "edge of the cube shown, nm",
    "second_place": "centre (x, y, z) and edge of the view of the second image of a pair, nm; else empty",
    "segment_ids": "segments shown, before the correction; the first is the one asked about",
    "body_ids": "the proofread bodies that they belong to",
    "group": "samples of one group share segments: the unit to resample",
    "origin": "edit (a real correction), control (real, nothing to correct) or simulated",
    "edit_id": "name of the correction, empty for controls",
    "edit_time": "when the correction was made, where known",
    "source": "where segmentation and truth come from",
    "source_version": "version of the source",
}

GEOMETRY_CONTENT = (
    "image channels of each view of meshes, in the order of `views`: one grey PNG of 16 bits and 224 x 1568 px, seven "
    "channels of 224 x 224 px below each other: silhouette, depth, normal x, y, z, first and second mask"
)
REPLIES_CONTENT = "what models replied to the row, one entry a vote, to be learnt from; always empty in `test`"

LABEL_RULES = {
    "endpoint_localization": "The place where the segment meets the other part of its neuron; all such places in the "
    "view are right. The view is shifted by a hash, so that the place may lie anywhere in it; nodes spread over what "
    "it shows of the skeleton, and are chosen without the answer. Views with another end that goes on are left out.",
    "split_proposal": "A node on either side of a cut that is good by the rule of `split_action`: those nearest to it "
    "between which the minimum cut is good, too. Views and nodes as for `endpoint_localization`; views with a second "
    "merge error are left out.",
    "merge_action": "yes: both segments belong to one proofread body; no: they touch, at comparable distance and size, "
    "and do not.",
    "merge_action_with_em": "yes: both segments belong to one proofread body; no: they touch, at comparable "
    "distance and size, and do not.",
    "merge_action_multiple_choice": "Places are ends of segments. Candidates are the four segments in contact with the "
    "base that are nearest to the end (then others in the view, where fewer touch), in the order of a hash. A letter: "
    "that candidate alone belongs to the same proofread body, and a merge correction of the two lies in the view; "
    "none: none of them does, in part because the right one was withheld.",
    "endpoint_error_identification": "Candidates are the ends of the segment's skeleton; yes: a merge correction lies "
    "near.",
    "endpoint_error_identification_with_em": "Candidates are the ends of the segment's skeleton; yes: a merge "
    "correction lies near.",
    "merge_error_identification": "Candidates are the branch points of the segment's skeleton; yes: the place fuses "
    "two bodies.",
    "merge_error_identification_with_em": "Candidates are the branch points of the segment's skeleton; yes: the place "
    "fuses two bodies.",
    "split_action": "A cut is good (yes) if and only if good > k * bad for every body larger than t in the cutout, "
    "where good is what is split off and does not belong to the body, and bad is what does (k and t: `manifest.json`).",
    "split_action_with_em": "A cut is good (yes) if and only if good > k * bad for every body larger than t in the "
    "cutout, where good is what is split off and does not belong to the body, and bad is what does (k and t: "
    "`manifest.json`).",
    "split_mask_generation": "Places are the merge errors of `merge_error_identification`, at their candidate. The "
    "masks are of the right split, by the rule of `split_action`: a pixel belongs to the part whose surface is seen "
    "there, and the part that covers fewer pixels of all views is the one taken away (white). A place is left out "
    "where no split is right, or a part covers less than 2% of what is seen.",
    "segment_identity": "yes: both images show one branch point of one segment, from two directions and at two zooms; "
    "no: they show two segments of two bodies that are alike in size, cable and branching.",
    "segment_classification": "By nuclei and cell types of the source: one nucleus of a neuron (a), several (b), none "
    "(c), a nucleus alone (d), other cells (e). e, f and g are not in `train`.",
}
