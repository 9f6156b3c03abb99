"""Jobs on other machines: what travels, who does it there, and the machine that stands for all of them here."""
