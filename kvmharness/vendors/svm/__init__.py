"""AMD's SVM."""
