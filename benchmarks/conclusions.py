"""The conclusion of each section of docs/benchmarks.md, with figures from what its script printed."""

import re

ON_UNSEEN_NIGHTS = (
    "On unseen nights raw pixels fall from {halves} to {raw}, while the features keep {features}; other "
    "classifiers do as well on the same features (SVM {svm}, k-NN {knn}), so the data matter more than "
    "the method.",
    {
        "halves": r"^ +raw +(\S+) +\S+ +\d+$",
        "raw": r"^ +raw +MuyGPs (\S+)",
        "features": r"^ +features +MuyGPs (\S+)",
        "svm": r"^ +features +SVM (\S+)",
        "knn": r"^ +features +k-NN (\S+)",
    },
)
CHANGES = (
    "The usual features reach {usual}, concentrations in place of spread_model {concentrations}, and all "
    "features {all}; with 10 neighbours in place of 50 it is {few}, with 100 {many}.",
    {
        "usual": r"^default: brightness, spread_model +(\S+)",
        "concentrations": r"^brightness, concentrations +(\S+)",
        "all": r"^all \d+ features +(\S+)",
        "few": r"^10 neighbours for 50 +(\S+)",
        "many": r"^100 neighbours for 50 +(\S+)",
    },
)
READING = (
    "Cutouts are read {ratio} times as fast as with astropy one by one, and the job of notebook 3 takes "
    "{floor} times as long as the reading and writing that it needs at least.",
    {"ratio": r"reading ratio (\S+)", "floor": r"times the floor (\S+)"},
)
# By title: the sentence, and the pattern whose group is each figure.
CONCLUSIONS = {
    "Prediction beside stock MuyGPyS": (
        "On 8 features the compiled engine predicts {ratio} times as fast as stock MuyGPyS, and the "
        "numbers differ by {diff} at most.",
        {"ratio": r"^ratio (\S+)", "diff": r"max_diff (\S+)"},
    ),
    "The first classification in a new process": (
        "The first classification takes {kept} s after the imports, and {first} s once, when the engine "
        "has yet to be compiled.",
        {"kept": r"kept by the user +\S+ +(\S+)", "first": r"none yet +\S+ +(\S+)"},
    ),
    "Cost against the number of predictions and of training points": (
        "A prediction costs the same from ten thousand to a million objects (largest over smallest "
        "{ratio}); with 100,000 training points it takes {muygps} µs, and one of k-NN {knn} µs.",
        {
            "ratio": r"smallest cost (\S+)",
            "muygps": r"MuyGPs +100000 +\S+ +(\S+)",
            "knn": r"k-NN +100000 +\S+ +(\S+)",
        },
    ),
    "Reading cutouts, and the job of notebook 3": READING,
    "Features of cutouts": (
        "The classifier's features of {both} cutouts are measured in a second, and of {one} on one "
        "processor.",
        {"both": r"of the classifier +(\d+)", "one": r"on one processor +(\d+)"},
    ),
    "A survey of a million objects": (
        "{n} objects take {seconds} s and {memory} GB of memory, and a run that was killed on the way "
        "ends with the same files.",
        {
            "n": r"^(\d+) classified",
            "seconds": r"classified in (\S+) s",
            "memory": r"memory of the process (\S+) GB",
        },
    ),
    "Simulating cutouts": (
        "The bundle's {n} cutouts are simulated in {seconds} s.",
        {"n": r"simulated (\d+)", "seconds": r"in (\S+) s"},
    ),
    "Fetching cutouts: requests": (
        "Patch by patch takes {factor} times fewer requests than object by object, but {whole} MB "
        "instead of {single} MB.",
        {
            "factor": r"^(\S+) times fewer",
            "whole": r"patch by patch  .* (\S+)$",
            "single": r"object by object .* (\S+)$",
        },
    ),
    "Fetching cutouts: faults": (
        "With {share} of the requests at fault and the process killed on the way, {saved} of {n} "
        "cutouts are saved, {lost} lost and {corrupt} corrupt.",
        {
            "share": r"(\S+) of the requests with a fault",
            "saved": r"saved (\d+)",
            "n": r"^requested (\d+)",
            "lost": r"lost (\d+)",
            "corrupt": r"lost \d+ corrupt (\d+)",
        },
    ),
    "Positions of one's own, end to end": (
        "{n} positions take {seconds} s, {memory} GB of memory and {requests} requests per object.",
        {
            "n": r"[\s\S]*^(\d+) positions",  # the last ones that are printed are the most
            "seconds": r"[\s\S]*positions/s, (\d+) s",
            "memory": r"[\s\S]*largest memory (\S+) GB",
            "requests": r"[\s\S]* (\S+) requests per object",
        },
    ),
    "Positions of one's own, from a faulty archive": (
        "With {faults} of {requests} requests at fault and the process killed on the way, {classified} of "
        "{n} positions are classified, and {lost} answers are lost.",
        {
            "faults": r"requests, (\d+) with a fault",
            "requests": r"^(\d+) requests",
            "classified": r"classified (\d+)",
            "n": r"^asked (\d+)",
            "lost": r"lost (\d+)",
        },
    ),
    "Accuracy on the bundled cutouts": ON_UNSEEN_NIGHTS,
    "Ablation on the bundled cutouts": CHANGES,
    "Kinds of PSFs that the training set has not": (
        "Of stars with a PSF of a kind that the training set has not, {worst} at most are called galaxies.",
        {"worst": r"called galaxies: (\S+)"},
    ),
    "Several images of one object": (
        "Two images in each band leave {ratio} of the errors of one image.",
        {"ratio": r"over those of one: (.+?) \("},
    ),
    "Moving objects: streaks": (
        "At 1 % false positives a share of {found} of the streaks is found; at a length of 10 px and an "
        "S/N of 20 the error of the length is {error} times the Cramér-Rao bound.",
        {"found": r"p_streak > \S+ (\S+) of", "error": r"^ +10 +20 +(\S+)"},
    ),
    "Moving objects: real alerts": (
        "Asteroids are told from the rest of real alerts with an AUC of {auc}; a share of {ambiguous} "
        "of all alerts is ambiguous, and of the others {wrong} are wrong.",
        {
            "auc": r"^asteroid or not: AUC +(\S+)",
            "ambiguous": r"real, all: (\S+)",
            "wrong": r"real, all: .* (\S+)$",
        },
    ),
    "Trails in whole images": (
        "Of continuous trails of S/N 18 to 25 `find_trails` finds a share of {ours} and `findsat_mrt` "
        "{theirs}, which takes {times} times as long.",
        {
            "ours": r"\(18, 25\] False +\d+ +(\S+)",
            "theirs": r"\(18, 25\] False +\d+ +\S+ +(\S+)",
            "times": r"(\S+) times as long",
        },
    ),
    "Trails in quadrants that have none": (
        "{false} false trails are found in {n} quadrants without trails.",
        {"false": r"^(\d+) false", "n": r"trails in (\d+)"},
    ),
    "Reading real cutouts, and the job of notebook 3": READING,
    "Realism of the simulated cutouts": (
        "Simulated stars in i are told from real ones with an area under the ROC curve of {star}, galaxies "
        "with {galaxy}; those of real nights are told from other nights with {star_nights} and {nights}.",
        {
            "star": r"^star, i +simulated from B (\S+),",
            "galaxy": r"^galaxy, i +simulated from B (\S+),",
            "star_nights": r"^star, i .* A from B (\S+),",
            "nights": r"^galaxy, i .* A from B (\S+),",
        },
    ),
    "Accuracy on real cutouts": ON_UNSEEN_NIGHTS,
    "Ablation on real cutouts": CHANGES,
}


def conclusion(title, printed):
    """Return the sentence for what the script of a section printed; nothing if it or a figure is missing."""
    sentence, patterns = CONCLUSIONS.get(title, ("", {}))
    found = {name: re.search(pattern, printed, re.MULTILINE) for name, pattern in patterns.items()}
    if not all(found.values()):
        return ""
    return sentence.format_map({name: match[1] for name, match in found.items()})
