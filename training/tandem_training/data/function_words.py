"""English words that name nothing in an image."""

FUNCTION = """a about above across after against all along also an and another are around as at away
back be before behind being below beside between both but by can do does down each eight five for
four from front get going has have he her him his holding in inside into is it its just large little
looking looks many near next no nine not of off on one onto or other out outside over past six seven
several she side small some something ten that the their them there they this three through to top
toward towards two under up very wearing what while who with"""
FUNCTION_WORDS = frozenset(FUNCTION.split())
