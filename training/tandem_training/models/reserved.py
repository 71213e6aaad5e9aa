"""One vocabulary for words and all else: rows of BERT's vocabulary that no word uses, [unused0] to
[unused993], stand for sentinels, tasks, regions and codes of image cells (OFA, Wang et al. 2022,
arXiv:2202.03052, section 3.1, has one vocabulary of words, places and codes)."""

START, END = 101, 102  # [CLS] and [SEP]
SENTINELS = 1  # of hidden spans; 30
TASKS = {"infill": 31, "match": 32, "caption": 33, "paint": 34}
REGIONS = 51  # of the image, in their order; 36
CODES, MOST_CODES = 104, 795  # of image cells
