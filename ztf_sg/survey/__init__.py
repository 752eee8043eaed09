"""Classification of whole surveys on Dask."""

from ztf_sg.survey.classify import SurveyError, classify_partition, classify_survey, read_skipped
from ztf_sg.survey.partition import RESULT

__all__ = ["RESULT", "SurveyError", "classify_partition", "classify_survey", "read_skipped"]
